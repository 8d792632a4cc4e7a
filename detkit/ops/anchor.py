"""Anchors: boxes of fixed shapes laid over every cell of a feature map (Faster R-CNN, section 3.1.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Rounding = Literal["none", "half_extent", "base16"]


def base_anchors(sizes: Sequence[float], ratios: Sequence[float], rounding: Rounding = "none") -> Tensor:
    """Generate the anchors of one cell, about the origin: float32 [len(ratios) * len(sizes), 4], ratio-major.

    A size is the square root of the area in pixels, a ratio is height / width. Papers' code rounds in its own way:
    "half_extent" rounds the corners (torchvision), "base16" rounds the shape at 16 px and then scales it up
    (py-faster-rcnn's generate_anchors); "none" keeps the area exact.
    """
    size = torch.tensor(sizes, dtype=torch.float32)
    ratio = torch.tensor(ratios, dtype=torch.float32)
    if rounding == "base16":
        width = (16 / ratio.sqrt()).round()
        height = (width * ratio).round()
        shape = torch.stack([width, height], dim=1)[:, None] * (size / 16)[None, :, None]
    else:
        height = ratio.sqrt()
        shape = torch.stack([1 / height, height], dim=1)[:, None] * size[None, :, None]
    half = shape.reshape(-1, 2) / 2  # [A, 2] of (w, h)
    if rounding == "half_extent":
        half = half.round()
    return torch.cat([-half, half], dim=1)


def default_boxes(scale: float, next_scale: float, ratios: Sequence[float]) -> Tensor:
    """Generate SSD's boxes of one cell, as shares of the canvas about the origin: float32 [2 + 2 * len(ratios), 4].

    scale: side of the square one, s_k; a second square has the side sqrt(s_k * s_k+1). For each ratio (width / height)
    there is a box of that shape and one upright, both of the area of the first square (SSD, section 2.2).
    """
    shapes = [(scale, scale), (math.sqrt(scale * next_scale),) * 2]
    for ratio in ratios:
        width, height = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        shapes += [(width, height), (height, width)]
    half = torch.tensor(shapes, dtype=torch.float32) / 2  # [A, 2] of (w, h)
    return torch.cat([-half, half], dim=1)


def grid_anchors(base: Tensor, grid: tuple[int, int], stride: tuple[float, float], offset: float = 0.5) -> Tensor:
    """Shift `base` to every cell of a grid: float32 [H * W * A, 4] xyxy in pixels, ordered by row, column, anchor.

    grid: (H, W) cells; stride: (vertical, horizontal) pixels per cell; offset: where in its cell an anchor is
    centred, in cells (0.5 is the middle; torchvision's two-stage models use 0).
    """
    rows = (torch.arange(grid[0], device=base.device, dtype=base.dtype) + offset) * stride[0]
    columns = (torch.arange(grid[1], device=base.device, dtype=base.dtype) + offset) * stride[1]
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centres = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)  # [H * W, 1, 4]
    return (centres + base).reshape(-1, 4)
