"""Map boxes between canvas and file for a whole batch, in tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.image.preprocess import Letterbox, Preprocess

# Sizes are int64 [B, 2] of (h, w); boxes float32 [B, ..., 4] xyxy.


def content_mask(sizes: Tensor, height: int, width: int) -> Tensor:
    """Where a canvas of `height` and `width` has content: bool [B, 1, H, W]."""
    rows = torch.arange(height, device=sizes.device) < sizes[:, :1]
    columns = torch.arange(width, device=sizes.device) < sizes[:, 1:]
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes cut to 0..size of their image."""
    return torch.minimum(boxes.clamp(min=0), _corners(sizes, boxes))


def to_original(boxes: Tensor, preprocess: Preprocess, sizes: Tensor, original_sizes: Tensor) -> Tensor:
    """`preprocess.to_original` of each image: boxes in pixels of the files, clipped to them."""
    if isinstance(preprocess, Letterbox):
        original = original_sizes.double()
        longest = original.amax(dim=1, keepdim=True)
        content = torch.floor(original * (preprocess.size / longest) + 0.5).clamp(min=1).long()
        boxes = boxes - _corners((preprocess.size - content) // 2, boxes)
        sizes = content
    scale = sizes.double() / original_sizes.double()
    return clip(boxes / _corners(scale, boxes), original_sizes)


def _corners(values: Tensor, boxes: Tensor) -> Tensor:
    """[B, 2] of (y, x) as [B, 1, ..., 4] of (x, y, x, y), of the type and as many dimensions as the boxes."""
    pairs = values.to(boxes.dtype).flip(1)
    return torch.cat([pairs, pairs], dim=1).view(-1, *[1] * (boxes.ndim - 2), 4)
