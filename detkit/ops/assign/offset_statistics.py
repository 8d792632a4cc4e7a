"""Mean and deviation of box offsets over a training set, by which regression targets are normalised."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from detkit.core.structures import Target
from detkit.ops.assign.match import match_boxes
from detkit.ops.coder import encode

FEWEST = 10  # regions of a class, below which its deviation is a guess


def offset_statistics(
    targets: Iterable[Target], *, num_classes: int, fg_iou: float, fallback: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of the offsets of each class: float32 [C, 4] both (Fast R-CNN, section 2.3).

    targets: of the training set, with proposals in the frame of the boxes. A region is assigned the ground truth that
    it overlaps most, if by at least `fg_iou`; ground truths are regions too. num_classes 1 pools all classes. Classes
    with few regions have mean 0 and the deviation `fallback`.
    """
    count = torch.zeros(num_classes, 1, dtype=torch.float64)
    total, squares = torch.zeros(2, num_classes, 4, dtype=torch.float64)
    for target in targets:
        boxes, difficult = target["boxes"], target["difficult"]
        regions = torch.cat([target["proposals"], boxes[~difficult]])
        matches = match_boxes(regions, boxes, difficult, positive=fg_iou, negative=fg_iou)
        owner = matches[matches >= 0]
        offsets = encode(boxes[owner], regions[matches >= 0]).double()
        column = target["labels"][owner] if num_classes > 1 else torch.zeros_like(owner)
        count.index_add_(0, column, torch.ones(len(owner), 1, dtype=torch.float64))
        total.index_add_(0, column, offsets)
        squares.index_add_(0, column, offsets.square())
    mean = total / count.clamp(min=1)
    std = (squares / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
    few = (count < FEWEST) | (std <= 0)
    return mean.masked_fill(few, 0).float(), torch.where(few, std.new_tensor(fallback), std).float()
