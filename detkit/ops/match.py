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
    if difficult.any():
        covered = (box_iof(boxes, gt_boxes[difficult]) >= DIFFICULT_SHARE).any(dim=1)
        matches[(matches == NEGATIVE) & covered] = BETWEEN
    return matches
