"""Segment an image by graphs (Felzenszwalb and Huttenlocher 2004) in linear time.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004. The one liberty: colour
distances are rounded to 1/64, so that edges are put in order by counting instead of comparing.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.core.jit import jit
from detkit.core.structures import Size

LEVELS = 64  # steps of weight per unit of colour distance
NUM_LEVELS = int(256 * 3**0.5 * LEVELS) + 1  # black to white in three channels, and room for rounding
OUTSIDE = NUM_LEVELS  # the level of an edge that would leave the image


class GridGraph(NamedTuple):
    """The edges between each pixel and its eight neighbours, in ascending weight.

    edges: int32 [E], 4 * pixel + direction; direction 0..3 is right, down, down right, down left. Edges of the same
    weight are in ascending order. levels: uint16 [E], their weights in 1/64 of colour distance.
    """

    size: Size
    edges: NDArray[np.int32]
    levels: NDArray[np.uint16]


def segment(image: NDArray[np.uint8], *, scale: float, min_size: int, sigma: float = 0.8) -> NDArray[np.int32]:
    """int32 [H, W]: the region of each pixel of `image` [H, W] or [H, W, C], as `cut` numbers them."""
    return cut(grid_graph(smooth(image, sigma)), scale=scale, min_size=min_size)


def smooth(image: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    """float32 [H, W, C]: `image` [H, W] or [H, W, C] after a Gaussian of `sigma` pixels (0: as it is)."""
    pixels = np.ascontiguousarray(image, np.float32)
    if sigma > 0 and pixels.size:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
    return pixels.reshape(*image.shape[:2], -1)


def grid_graph(pixels: NDArray[np.float32]) -> GridGraph:
    """The sorted edges of `pixels` [H, W, C], values 0..255, C at most 3; one graph serves every scale."""
    height, width = pixels.shape[:2]
    return GridGraph((height, width), *_sorted_edges(_edge_levels(pixels)))


def cut(graph: GridGraph, *, scale: float, min_size: int) -> NDArray[np.int32]:
    """int32 [H, W]: the region of each pixel, 0..R-1 in the order of the regions' first pixels.

    scale: the paper's k, in colour distance x pixels: larger gives larger regions. min_size: regions of fewer pixels
    are joined to a neighbour, along edges in ascending weight.
    """
    height, width = graph.size
    return _components(graph.edges, graph.levels, height, width, float(scale) * LEVELS, min_size)


@jit
def find_root(parent: NDArray[np.int32] | NDArray[np.int64], node: int) -> int:
    """The root above `node`; the path to it is halved on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@jit
def _edge_levels(pixels: NDArray[np.float32]) -> NDArray[np.uint16]:
    height, width, channels = pixels.shape
    levels = np.full((height, width, 4), OUTSIDE, np.uint16)
    for direction, (down, right) in enumerate(((0, 1), (1, 0), (1, 1), (1, -1))):
        for y in range(height - down):
            for x in range(max(0, -right), width - max(0, right)):
                squared = np.float32(0)
                for c in range(channels):
                    difference = pixels[y + down, x + right, c] - pixels[y, x, c]
                    squared += difference * difference
                levels[y, x, direction] = int(np.sqrt(squared) * np.float32(LEVELS) + np.float32(0.5))
    return levels.reshape(-1)


@jit
def _sorted_edges(levels: NDArray[np.uint16]) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
    starts = np.zeros(NUM_LEVELS + 2, np.int64)  # after counting: where the edges of a level begin
    for level in levels:
        starts[level + 1] += 1
    for level in range(NUM_LEVELS):
        starts[level + 1] += starts[level]
    edges = np.empty(starts[NUM_LEVELS], np.int32)
    in_order = np.empty(len(edges), np.uint16)
    for edge in range(len(levels)):
        level = levels[edge]
        if level != OUTSIDE:
            edges[starts[level]] = edge
            in_order[starts[level]] = level
            starts[level] += 1
    return edges, in_order


@jit
def _components(
    edges: NDArray[np.int32], levels: NDArray[np.uint16], height: int, width: int, scale: float, min_size: int
) -> NDArray[np.int32]:
    count = height * width
    steps = np.array([1, width, width + 1, width - 1])
    parent = np.arange(count).astype(np.int32)
    size = np.ones(count, np.int32)
    limit = np.full(count, scale)  # the weight that a region still accepts: its largest inner weight + scale / size
    refused, num_refused = np.empty(len(edges), np.int32), 0
    for index in range(len(edges)):
        edge = edges[index]
        a, b = find_root(parent, edge >> 2), find_root(parent, (edge >> 2) + steps[edge & 3])
        if a == b:
            continue
        if levels[index] <= limit[a] and levels[index] <= limit[b]:
            joined = _join(parent, size, a, b)
            limit[joined] = levels[index] + scale / size[joined]
        else:
            refused[num_refused] = edge
            num_refused += 1
    for edge in refused[:num_refused]:
        a, b = find_root(parent, edge >> 2), find_root(parent, (edge >> 2) + steps[edge & 3])
        if a != b and min(size[a], size[b]) < min_size:
            _join(parent, size, a, b)
    names = np.full(count, -1, np.int32)
    labels = np.empty(count, np.int32)
    regions = 0
    for pixel in range(count):
        root = find_root(parent, pixel)
        if names[root] < 0:
            names[root] = regions
            regions += 1
        labels[pixel] = names[root]
    return labels.reshape(height, width)


@jit
def _join(parent: NDArray[np.int32], size: NDArray[np.int32], a: int, b: int) -> int:
    if size[a] < size[b]:
        a, b = b, a
    parent[b] = a
    size[a] += size[b]
    return a
