"""Non-maximum suppression that looks at no more boxes than it has to."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

CHUNK = 1000  # boxes of the first look; up to here torchvision suppresses all classes in one pass on a CPU


def best_after_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, count: int | None) -> Tensor:
    """The first `count` survivors (None: all) of `torchvision.ops.batched_nms`, by descending score: int64 [K].

    boxes float32 [N, 4], scores float32 [N] in descending order, labels int64 [N]. Whether a box survives depends on
    better ones alone, so the best are looked at first, and the others only while there are too few survivors.
    """
    looked = CHUNK
    while True:
        keep = batched_nms(boxes[:looked], scores[:looked], labels[:looked], iou)[:count]
        if len(keep) == count or looked >= len(boxes):
            return keep
        looked *= 4


def rank_in_group(groups: Tensor) -> Tensor:
    """How many items of its own group are before each item: int64 [N], of groups int64 [N] from 0 on."""
    order = groups.argsort(stable=True)
    sizes = groups.bincount()
    starts = sizes.cumsum(0) - sizes
    rank = torch.empty_like(groups)
    rank[order] = torch.arange(len(groups), device=groups.device) - starts[groups[order]]
    return rank
