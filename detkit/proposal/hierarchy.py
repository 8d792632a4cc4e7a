"""Merge the regions of a segmentation hierarchically, the most similar neighbours first.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, section 3.1 (Algorithm 1) and 3.2.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from detkit.core.errors import UserError
from detkit.core.jit import jit
from detkit.proposal.region import WHOLE, Regions
from detkit.proposal.segmentation import find_root

MEASURES = "CTSF"  # colour, texture, size, fill


def merge_regions(regions: Regions, pairs: NDArray[np.int64], measures: str) -> NDArray[np.int64]:
    """int64 [2R-1, 4] xyxy: the boxes of the R regions, then those of the merged ones in the order of their making.

    pairs: int64 [E, 2], the neighbours; together they connect all regions. measures: which of colour (C), texture
    (T), size (S) and fill (F) add up to the similarity, e.g. "CTSF". Among equals the pair with the lowest numbers is
    merged first.
    """
    if len(regions.sizes) == 0:
        return regions.boxes
    sizes, boxes, colours, textures = (np.concatenate([column, np.zeros_like(column[1:])]) for column in regions)
    return _merge(sizes, boxes, colours, textures, pairs, _used(measures))


def check_measures(measures: str) -> None:
    """Raise UserError where `measures` is not made of the letters C, T, S, F."""
    if not measures or set(measures) - set(MEASURES):
        raise UserError(f"proposal.strategies: {measures!r} must be made of the letters {', '.join(MEASURES)}")


def region_similarity(regions: Regions, a: int, b: int, measures: str) -> int:
    """The similarity of regions `a` and `b` of an image that all `regions` fill, each measure in 0..WHOLE."""
    return int(_similarity(*regions, a, b, _used(measures), int(regions.sizes.sum())))


def _used(measures: str) -> NDArray[np.bool_]:
    return np.array([letter in measures for letter in MEASURES])


@jit
def _merge(
    sizes: NDArray[np.int64],
    boxes: NDArray[np.int64],
    colours: NDArray[np.int32],
    textures: NDArray[np.int32],
    pairs: NDArray[np.int64],
    used: NDArray[np.bool_],
) -> NDArray[np.int64]:
    total = len(sizes)  # rows (total + 1) / 2 and on are filled here
    count = (total + 1) // 2
    area = sizes[:count].sum()
    # the neighbours of a region are a linked list, so that those of two regions are joined in one step
    target = np.empty(2 * len(pairs), np.int64)
    following = np.full(2 * len(pairs), -1)
    head, tail = np.full(total, -1), np.full(total, -1)
    heap = [(np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)]
    for k in range(len(pairs)):
        a, b = pairs[k, 0], pairs[k, 1]
        heap.append((-_similarity(sizes, boxes, colours, textures, a, b, used, area), a, b))
        for entry, region, other in ((2 * k, a, b), (2 * k + 1, b, a)):
            target[entry] = other
            if head[region] < 0:
                head[region] = entry
            else:
                following[tail[region]] = entry
            tail[region] = entry
    heapq.heapify(heap)
    owner = np.arange(total)  # leads to the region that a region is part of now
    seen = np.full(total, -1)
    for new in range(count, total):
        _, a, b = heapq.heappop(heap)
        while owner[a] != a or owner[b] != b:  # one of them was merged with another in the meantime
            _, a, b = heapq.heappop(heap)
        _unite(sizes, boxes, colours, textures, a, b, new)
        owner[a] = owner[b] = new
        following[tail[a]] = head[b]
        head[new] = head[a]
        seen[new] = new
        entry, last = head[new], -1
        while entry >= 0:
            other = find_root(owner, target[entry])
            if seen[other] != new:
                seen[other] = new
                target[entry] = other
                heapq.heappush(
                    heap, (-_similarity(sizes, boxes, colours, textures, other, new, used, area), other, new)
                )
                last = entry
            elif last < 0:  # the region itself, or one that is in the list already
                head[new] = following[entry]
            else:
                following[last] = following[entry]
            entry = following[entry]
        tail[new] = last
    return boxes


@jit
def _similarity(
    sizes: NDArray[np.int64],
    boxes: NDArray[np.int64],
    colours: NDArray[np.int32],
    textures: NDArray[np.int32],
    a: int,
    b: int,
    used: NDArray[np.bool_],
    area: int,
) -> int:
    similarity = 0
    if used[0]:
        similarity += _intersection(colours[a], colours[b])
    if used[1]:
        similarity += _intersection(textures[a], textures[b])
    together = sizes[a] + sizes[b]
    if used[2]:
        similarity += WHOLE * (area - together) // area
    if used[3]:
        width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
        height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
        similarity += WHOLE * (area - width * height + together) // area
    return similarity


@jit
def _intersection(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    total = 0
    for k in range(len(a)):
        total += min(a[k], b[k])
    return total


@jit
def _unite(
    sizes: NDArray[np.int64],
    boxes: NDArray[np.int64],
    colours: NDArray[np.int32],
    textures: NDArray[np.int32],
    a: int,
    b: int,
    new: int,
) -> None:
    sizes[new] = sizes[a] + sizes[b]
    share = sizes[a] / sizes[new]
    for histogram in (colours, textures):
        for k in range(histogram.shape[1]):
            histogram[new, k] = int(share * histogram[a, k] + (1 - share) * histogram[b, k] + 0.5)
    for corner in range(2):
        boxes[new, corner] = min(boxes[a, corner], boxes[b, corner])
        boxes[new, corner + 2] = max(boxes[a, corner + 2], boxes[b, corner + 2])
