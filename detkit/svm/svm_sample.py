"""Sample training regions for R-CNN's SVMs and box regressors (R-CNN, appendices B and C)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from detkit.ops.assign.match import DIFFICULT_SHARE
from detkit.ops.box import box_iof
from detkit.ops.coder import encode

# Symbols: N regions, M ground truths, K regions near one.


def svm_negatives(boxes: Tensor, gt_boxes: Tensor, difficult: Tensor, *, below: float) -> Tensor:
    """Select the negatives of the SVM of one class: bool [N].

    boxes [N, 4], gt_boxes [M, 4] of this class, both xyxy; difficult: bool [M]. A region is negative if its IoU with
    every ground truth, difficult ones included, is less than `below` and no difficult one covers half of it. The
    positives are the ground truths themselves; regions in between are ignored.
    """
    far: Tensor = (box_iou(boxes, gt_boxes) < below).all(dim=1)
    return far & ~(box_iof(boxes, gt_boxes[difficult]) >= DIFFICULT_SHARE).any(dim=1)


def box_examples(boxes: Tensor, gt_boxes: Tensor, *, from_iou: float) -> tuple[Tensor, Tensor]:
    """Select the regions near an object of one class, int64 [K], and encode the offsets to it, float32 [K, 4].

    boxes [N, 4], gt_boxes [M, 4] of this class without difficult ones, both xyxy. A region is near if its highest IoU
    is at least `from_iou`; the object is that of the highest. Offsets are those of `detkit.ops.coder`.
    """
    if len(boxes) == 0 or len(gt_boxes) == 0:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device), boxes.new_zeros(0, 4)
    iou, owner = box_iou(boxes, gt_boxes).max(dim=1)
    near = torch.nonzero(iou >= from_iou).flatten()
    return near, encode(gt_boxes[owner[near]], boxes[near])
