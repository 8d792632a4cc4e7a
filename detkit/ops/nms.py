"""Non-maximum suppression that computes no more overlaps than it has to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detkit.ops.box import paired_iou

CHUNK = 1000  # boxes of the first look; up to here torchvision suppresses all classes in one pass on a CPU


def best_after_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, count: int | None) -> Tensor:
    """Return the first `count` survivors (None: all) of `torchvision.ops.batched_nms`, by descending score: int64 [K].

    boxes float32 [N, 4], scores float32 [N] in descending order, labels int64 [N]. Whether a box survives depends on
    better ones alone, so the best are suppressed first, and the others only while there are too few survivors.
    """
    looked = CHUNK
    while True:
        keep: Tensor = batched_nms(boxes[:looked], scores[:looked], labels[:looked], iou)[:count]
        if len(keep) == count or looked >= len(boxes):
            return keep
        looked *= 4


def best_after_diou_nms(
    boxes: Tensor, labels: Tensor, threshold: float, count: int | None, *, beta: float = 1.0
) -> Tensor:
    """Return the first `count` survivors (None: all) of DIoU-NMS within each class: int64 [K <= count].

    Of two boxes of a class with a DIoU above `threshold` the better stays (Zheng et al. 2020). DIoU is IoU less the
    squared distance of the centres, as a share of the squared diagonal of the enclosing box, to the power of beta, 1 in
    the paper; so boxes beside each other both stay. boxes float32 [N, 4] and labels int64 [N] by descending score.
    """
    kept = labels.new_zeros(0)

    def beaten(by: Tensor, which: Tensor) -> Tensor:
        rivals = (labels[by][:, None] == labels[which]) & (by[:, None] < which)
        first, second = torch.nonzero(rivals, as_tuple=True)
        rivals[first, second] = paired_diou(boxes[by[first]], boxes[which[second]], beta) > threshold
        return rivals

    for chunk in torch.arange(len(boxes), device=boxes.device).split(CHUNK):
        if count is not None and len(kept) >= count:
            break
        chunk = chunk[~beaten(kept, chunk).any(dim=0)]
        kept = torch.cat([kept, chunk[_undefeated(beaten(chunk, chunk))]])
    return kept[:count]


def paired_diou(boxes: Tensor, others: Tensor, beta: float = 1.0) -> Tensor:
    """Compute DIoU of paired boxes: xyxy [..., 4] twice, broadcast -> float [...].

    IoU - (distance of centres / diagonal of the enclosing box)^(2 * beta).
    """
    between = (boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2
    around = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    diagonal = around.square().sum(dim=-1).clamp(min=torch.finfo(boxes.dtype).tiny)
    return paired_iou(boxes, others) - (between.square().sum(dim=-1) / diagonal).pow(beta)


def _undefeated(beats: Tensor) -> Tensor:
    """Tell which boxes survive greedy suppression: bool [N]; beats: bool [N, N], which later ones each suppresses."""
    rows = beats.cpu().numpy()
    out = np.zeros(len(rows), np.bool_)
    for index, row in enumerate(rows):
        if not out[index]:
            out |= row
    return torch.from_numpy(~out).to(beats.device)


def rank_in_group(groups: Tensor) -> Tensor:
    """Rank each item among those of its group, in order, from 0: int64 [N]; groups: int64 [N] from 0 on."""
    order = groups.argsort(stable=True)
    sizes = groups.bincount()
    starts = sizes.cumsum(0) - sizes
    rank = torch.empty_like(groups)
    rank[order] = torch.arange(len(groups), device=groups.device) - starts[groups[order]]
    return rank
