"""RoIAlign, for CPUs as one weighted gather (Mask R-CNN, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align as kernel

# Symbols: R regions, k cells along a side, s samples along a side of a cell. Each sample is a mean of 4 pixels.


def roi_align(
    feature: Tensor, regions: Tensor, size: int, scale: float, sampling_ratio: int, aligned: bool = True
) -> Tensor:
    """Pool regions by RoIAlign, on a CPU several times as fast as torchvision: [B, C, H, W] -> [R, C, k, k].

    regions: float32 [R, 5] of (image, x1, y1, x2, y2) in pixels of the image; scale: feature cells per pixel;
    sampling_ratio: samples along a side of a cell, above 0; aligned: shift by half a cell.

    torchvision's CPU kernel walks one channel after the other, and backward on one core. Here the pixels and weights
    of all samples of a cell are listed once, and `embedding_bag` sums whole rows of channels.
    """
    # in float32: half precision cannot tell the pixels of a large image apart; a file format has an operator for it
    if feature.is_cuda or torch.compiler.is_exporting():
        cells: Tensor = kernel(feature.float(), regions, size, scale, sampling_ratio, aligned=aligned)
        return cells.to(feature.dtype)
    _, channels, height, width = feature.shape
    corners = regions[:, 1:] * scale - (0.5 if aligned else 0.0)
    extent = corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    columns, column_weights = _taps(corners[:, 0], extent[:, 0], width, size, sampling_ratio)
    rows, row_weights = _taps(corners[:, 1], extent[:, 1], height, size, sampling_ratio)
    first_pixel = regions[:, 0].long() * (height * width)
    pixels = rows[:, :, None, :, None] * width + columns[:, None, :, None, :] + first_pixel.view(-1, 1, 1, 1, 1)
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]  # [R, k, k, 2s, 2s]
    cells = F.embedding_bag(
        pixels.flatten(3).flatten(0, 2),
        feature.permute(0, 2, 3, 1).reshape(-1, channels),
        per_sample_weights=weights.flatten(3).flatten(0, 2).to(feature.dtype),
        mode="sum",
    )
    return cells.view(-1, size, size, channels).permute(0, 3, 1, 2)


def _taps(low: Tensor, extent: Tensor, length: int, size: int, samples: int) -> tuple[Tensor, Tensor]:
    """List, along one axis, the pixels that each cell reads and their weights: int64 and float32 [R, k, 2s].

    low, extent: where regions begin and how long they are, float [R] in feature cells. A sample outside the map by
    more than a pixel counts as zero.
    """
    cell = (extent / size)[:, None, None]
    cells = torch.arange(size, device=low.device, dtype=low.dtype)[:, None]
    offsets = torch.arange(samples, device=low.device, dtype=low.dtype) + 0.5
    position = (low[:, None, None] + cells * cell + offsets * cell / samples).flatten(1)  # [R, k * s]
    within = ((position >= -1) & (position <= length)).to(low.dtype) / samples
    position = position.clamp(0, length - 1)
    left = position.floor()
    right_weight = position - left
    pixels = torch.stack([left, (left + 1).clamp(max=length - 1)], dim=2).long()
    weights = torch.stack([(1 - right_weight) * within, right_weight * within], dim=2)
    return pixels.view(-1, size, 2 * samples), weights.view(-1, size, 2 * samples)
