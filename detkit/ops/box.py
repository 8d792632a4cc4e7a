"""Box geometry that torchvision.ops does not have; box_iou, clip_boxes_to_image, ... are called from there."""

from __future__ import annotations

import torch
from torch import Tensor


def box_iof(boxes: Tensor, regions: Tensor) -> Tensor:
    """Compute intersection over the area of the box, of each box with each region.

    boxes [N, 4], regions [M, 4], both xyxy -> float [N, M] in 0..1; 0 for a box without area.
    """
    return paired_iof(boxes[:, None], regions[None])


def paired_iof(boxes: Tensor, regions: Tensor) -> Tensor:
    """Compute intersection over box area of paired boxes: xyxy [..., 4] twice, broadcast -> float [...] in 0..1."""
    top_left = torch.maximum(boxes[..., :2], regions[..., :2])
    bottom_right = torch.minimum(boxes[..., 2:], regions[..., 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
    return intersection / area.clamp(min=torch.finfo(boxes.dtype).tiny)


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Compute IoU of paired boxes: xyxy [..., 4] twice, broadcast -> float [...].

    A box whose corners are the wrong way round is empty; the IoU of two empty ones is 0.
    """
    top_left = torch.maximum(boxes[..., :2], others[..., :2])
    bottom_right = torch.minimum(boxes[..., 2:], others[..., 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    area, other_area = ((each[..., 2:] - each[..., :2]).clamp(min=0).prod(dim=-1) for each in (boxes, others))
    return intersection / (area + other_area - intersection).clamp(min=torch.finfo(boxes.dtype).tiny)


def inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Tell which boxes lie within an image of `size` (h, w): bool [N]."""
    height, width = size
    return (boxes[:, 0] >= 0) & (boxes[:, 1] >= 0) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
