"""Crop regions out of an image and warp each to one size (R-CNN, section 2.1 and appendix A)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Symbols: R regions, S the side of a crop in pixels.


def add_context(boxes: Tensor, size: int, context: int) -> Tensor:
    """Enlarge boxes [R, 4] xyxy about their centres, so that a crop warped to `size` has `context` pixels around them.

    The corners are whole pixels, at least one apart, and may lie beyond the image.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * (size / (size - 2 * context))
    top_left = torch.round(centre - half)
    return torch.cat([top_left, torch.maximum(torch.round(centre + half), top_left + 1)], dim=1)


def crop_warp(image: Tensor, boxes: Tensor, *, size: int, context: int) -> Tensor:
    """Crop each box with its context and scale both sides to `size` pixels: float32 [R, C, S, S].

    image: float32 [C, H, W] with the mean already subtracted. boxes: float32 [R, 4] xyxy in its pixels. Bilinear,
    without an antialias filter; beyond its border the image continues as zeros, which is the mean. (The original
    resizes what lies inside and then pads: the same but within a pixel of the border.)
    """
    boxes = add_context(boxes, size, context)
    steps = (torch.arange(size, device=image.device) + 0.5) / size  # centres of the crop's pixels, in sides of a box
    x, y = ((boxes[:, axis, None] + steps * (boxes[:, axis + 2] - boxes[:, axis])[:, None]) for axis in (0, 1))
    height, width = image.shape[1:]
    x, y = 2 * x / width - 1, 2 * y / height - 1  # [R, S], in the -1..1 of grid_sample
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=3)  # [R, S, S, 2]
    images = image.expand(len(boxes), -1, -1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
