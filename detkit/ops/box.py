"""Geometry of boxes; what torchvision.ops has (box_iou, clip_boxes_to_image, ...) is called from there."""

from __future__ import annotations

import torch
from torch import Tensor


def box_iof(boxes: Tensor, regions: Tensor) -> Tensor:
    """Share of each box that lies in each region: intersection over the area of the box.

    boxes [N, 4], regions [M, 4], both xyxy -> float [N, M] in 0..1; a box without area has share 0.
    """
    return paired_iof(boxes[:, None], regions[None])


def paired_iof(boxes: Tensor, regions: Tensor) -> Tensor:
    """Share of each box that lies in its own region: xyxy [..., 4] and [..., 4], broadcast -> float [...] in 0..1."""
    top_left = torch.maximum(boxes[..., :2], regions[..., :2])
    bottom_right = torch.minimum(boxes[..., 2:], regions[..., 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
    return intersection / area.clamp(min=torch.finfo(boxes.dtype).tiny)


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of each box with its own partner: xyxy [..., 4] and [..., 4], broadcast -> float [...].

    A box whose corners are the wrong way round is empty; the IoU of two empty ones is 0.
    """
    top_left = torch.maximum(boxes[..., :2], others[..., :2])
    bottom_right = torch.minimum(boxes[..., 2:], others[..., 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    area, other_area = ((each[..., 2:] - each[..., :2]).clamp(min=0).prod(dim=-1) for each in (boxes, others))
    return intersection / (area + other_area - intersection).clamp(min=torch.finfo(boxes.dtype).tiny)


def inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Which boxes do not cross the border of an image of `size` (h, w): bool [N]."""
    height, width = size
    return (boxes[:, 0] >= 0) & (boxes[:, 1] >= 0) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
