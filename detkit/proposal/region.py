"""Describe the regions of a segmentation: size, box, colour and texture histograms.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, section 3.2. Histograms are integers whose bins
sum to about `WHOLE`: sums of them do not depend on the order of addition, so every machine merges alike.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.core.jit import jit

# Symbols: H, W the image, C channels, R regions.

WHOLE = 1 << 20
COLOUR_BINS = 25  # per channel
TEXTURE_BINS = 10  # per channel and orientation
AXES = 4  # each with two opposite orientations
SIGNED_BINS = 2 * TEXTURE_BINS - 1  # bins -9..9 along an axis, 0 in the middle


class Regions(NamedTuple):
    """R regions. sizes: int64 [R] pixels. boxes: int64 [R, 4] xyxy, half-open.

    colours: int32 [R, 25 C], textures: int32 [R, 80 C], each row a histogram of sum `WHOLE`, less what rounding takes.
    """

    sizes: NDArray[np.int64]
    boxes: NDArray[np.int64]
    colours: NDArray[np.int32]
    textures: NDArray[np.int32]


def describe_regions(labels: NDArray[np.int32], pixels: NDArray[np.uint8], axis_bins: NDArray[np.uint8]) -> Regions:
    """The regions of `labels` int32 [H, W] in an image [H, W, C] whose textures are `axis_bins` [H, W, C, 4]."""
    count = int(labels.max(initial=-1)) + 1
    sizes, boxes, colours, along_axes = _accumulate(labels, count, pixels, axis_bins)
    return Regions(sizes, boxes, _normalised(colours), _normalised(orientation_counts(along_axes, sizes)))


def texture_axis_bins(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, W, C, 4]: how strong each channel of `pixels` rises along the axes at 0, 45, 90, 135 degrees.

    The derivative is that of a Gaussian of sigma 1; 9 is none, 18 the strongest in the channel, 0 its opposite.
    """
    position = np.arange(-3, 4, dtype=np.float32)
    bell = np.exp(-position * position / 2)
    bell /= bell.sum()
    slope = position * bell
    across, down = (
        np.asarray(
            cv2.sepFilter2D(pixels, cv2.CV_32F, kernel_x, kernel_y, borderType=cv2.BORDER_REPLICATE), np.float32
        ).reshape(pixels.shape)
        for kernel_x, kernel_y in ((slope, bell), (bell, slope))
    )
    return _axis_bins(across, down)


def orientation_counts(along_axes: NDArray[np.int32], sizes: NDArray[np.int64]) -> NDArray[np.int32]:
    """int32 [R, C * 8 * 10] from counts of signed bins, int32 [R, C * 4 * 19].

    A pixel that rises along an axis does not rise along its opposite: there it counts in the lowest bin.
    """
    signed = along_axes.reshape(len(sizes), -1, AXES, SIGNED_BINS)
    counts = np.empty((*signed.shape[:2], 2, AXES, TEXTURE_BINS), np.int32)
    counts[:, :, 0, :, 1:] = signed[..., TEXTURE_BINS:]
    counts[:, :, 1, :, 1:] = signed[..., TEXTURE_BINS - 2 :: -1]
    counts[..., 0] = sizes[:, None, None, None] - counts[..., 1:].sum(axis=-1)
    return counts.reshape(len(sizes), -1)


def adjacent_pairs(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """int64 [E, 2]: the regions (a < b) that share a side of a pixel, each pair once, in ascending order."""
    regions = int(labels.max(initial=-1)) + 1
    keys = []
    for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        border = first != second
        one, other = first[border].astype(np.int64), second[border]
        keys.append(np.minimum(one, other) * regions + np.maximum(one, other))
    unique = np.unique(np.concatenate(keys))
    return np.stack([unique // max(regions, 1), unique % max(regions, 1)], axis=1)


def _normalised(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    total = np.maximum(counts.sum(axis=1, keepdims=True, dtype=np.int64), 1)
    shares: NDArray[np.int64] = counts * np.int64(WHOLE) // total
    return shares.astype(np.int32)


@jit
def _axis_bins(across: NDArray[np.float32], down: NDArray[np.float32]) -> NDArray[np.uint8]:
    height, width, channels = across.shape
    steepest = np.zeros(channels, np.float32)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                squared = across[y, x, c] * across[y, x, c] + down[y, x, c] * down[y, x, c]
                steepest[c] = max(steepest[c], squared)
    bins = np.full((height, width, channels, AXES), TEXTURE_BINS - 1, np.uint8)
    diagonal = np.float32(0.5**0.5)
    for c in range(channels):
        if steepest[c] < 1e-6:  # a flat channel: what is left is rounding
            continue
        scale = np.float32(TEXTURE_BINS) / np.sqrt(steepest[c])
        most = np.float32(TEXTURE_BINS - 1)
        for y in range(height):
            for x in range(width):
                dx, dy = across[y, x, c] * scale, down[y, x, c] * scale
                for axis, rise in enumerate((dx, (dx + dy) * diagonal, dy, (dy - dx) * diagonal)):
                    bins[y, x, c, axis] = TEXTURE_BINS - 1 + int(min(max(rise, -most), most))
    return bins


@jit
def _accumulate(
    labels: NDArray[np.int32], count: int, pixels: NDArray[np.uint8], axis_bins: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    height, width, channels = pixels.shape
    sizes = np.zeros(count, np.int64)
    boxes = np.zeros((count, 4), np.int64)
    boxes[:, 0], boxes[:, 1] = width, height
    colours = np.zeros((count, channels * COLOUR_BINS), np.int32)
    along_axes = np.zeros((count, channels * AXES * SIGNED_BINS), np.int32)
    for y in range(height):
        for x in range(width):
            region = labels[y, x]
            sizes[region] += 1
            boxes[region, 0] = min(boxes[region, 0], x)
            boxes[region, 1] = min(boxes[region, 1], y)
            boxes[region, 2] = max(boxes[region, 2], x + 1)
            boxes[region, 3] = y + 1
            for c in range(channels):
                colours[region, c * COLOUR_BINS + pixels[y, x, c] * COLOUR_BINS // 256] += 1
                for axis in range(AXES):
                    along_axes[region, (c * AXES + axis) * SIGNED_BINS + axis_bins[y, x, c, axis]] += 1
    return sizes, boxes, colours, along_axes
