"""Which ground truth each anchor or proposal answers for."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from detkit.ops.box import box_iof

NEGATIVE = -1  # background
BETWEEN = -2  # neither: takes no part in the loss

DIFFICULT_SHARE = 0.5  # a box with at least this share inside a difficult object or a crowd is no background


def match(iou: Tensor, *, positive: float, negative: float, force_best: bool = False) -> Tensor:
    """The ground truth of each box: int64 [N], an index >= 0, NEGATIVE, or BETWEEN.

    iou: [M, N] of M ground truths with N boxes; M = 0 gives all NEGATIVE. A box takes its ground truth of highest
    IoU from `positive` on, is NEGATIVE below `negative`, BETWEEN in the gap. With `force_best` the best boxes of each
    ground truth, all ties, are positive at any IoU above 0, for the ground truth they overlap most
    (Faster R-CNN, section 3.1.2).
    """
    num_objects, num_boxes = iou.shape
    if num_objects == 0 or num_boxes == 0:
        return iou.new_full((num_boxes,), NEGATIVE, dtype=torch.int64)
    best_iou, best = iou.max(dim=0)
    matches = best.clone()
    matches[best_iou < positive] = BETWEEN
    matches[best_iou < negative] = NEGATIVE
    if force_best:
        highest = iou.max(dim=1, keepdim=True).values  # [M, 1]
        forced = ((iou == highest) & (highest > 0)).any(dim=0)
        matches = torch.where(forced, best, matches)
    return matches


def match_bipartite(iou: Tensor, *, positive: float) -> Tensor:
    """The ground truth of each box: int64 [N], an index >= 0 or NEGATIVE (SSD, section 2.2).

    iou: [M, N] of M ground truths with N boxes. First every ground truth gets a box of its own: the pair of highest
    IoU is taken, both leave, and so on while an IoU is above 0. Each other box then takes its ground truth of highest
    IoU where that is above `positive`.
    """
    num_objects, num_boxes = iou.shape
    if num_objects == 0 or num_boxes == 0:
        return iou.new_full((num_boxes,), NEGATIVE, dtype=torch.int64)
    best_iou, best = iou.max(dim=0)
    matches = torch.where(best_iou > positive, best, NEGATIVE)
    left = iou.clone()
    for _ in range(min(num_objects, num_boxes)):
        highest, pair = left.flatten().max(dim=0, keepdim=True)  # [1]: as indices, no wait for the device
        gt, box = pair // num_boxes, pair % num_boxes
        matches[box] = torch.where(highest > 0, gt, matches[box])
        left[gt] = -1
        left[:, box] = -1
    return matches


def match_boxes(
    boxes: Tensor,
    gt_boxes: Tensor,
    difficult: Tensor,
    *,
    positive: float,
    negative: float,
    force_best: bool = False,
) -> Tensor:
    """`match` on boxes xyxy [N, 4] and gt_boxes [M, 4], where difficult ground truths (bool [M]) are nobody's.

    No box is positive for a difficult ground truth, and a NEGATIVE that lies in one by half its area becomes
    BETWEEN: the model is taught neither that it is an object nor that it is background.
    """
    iou = box_iou(gt_boxes, boxes)
    iou[difficult] = 0
    matches = match(iou, positive=positive, negative=negative, force_best=force_best)
    return spare_difficult(matches, boxes, gt_boxes[difficult])


def match_default_boxes(boxes: Tensor, gt_boxes: Tensor, difficult: Tensor, *, positive: float) -> Tensor:
    """`match_bipartite` on boxes xyxy [N, 4] and gt_boxes [M, 4]; difficult ground truths as in `match_boxes`."""
    iou = box_iou(gt_boxes, boxes)
    iou[difficult] = 0
    return spare_difficult(match_bipartite(iou, positive=positive), boxes, gt_boxes[difficult])


def spare_difficult(matches: Tensor, boxes: Tensor, difficult_boxes: Tensor) -> Tensor:
    """`matches` [N] where each NEGATIVE of `boxes` that lies in a difficult one by half its area is BETWEEN."""
    if len(difficult_boxes) == 0:
        return matches
    covered = (box_iof(boxes, difficult_boxes) >= DIFFICULT_SHARE).any(dim=1)
    return torch.where((matches == NEGATIVE) & covered, BETWEEN, matches)
