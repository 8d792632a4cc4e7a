"""Box coding: boxes as offsets from anchors, and back (R-CNN, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)  # a box grows at most so much over its anchor: exp() stays finite


def encode(boxes: Tensor, anchors: Tensor, std: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """Encode boxes as offsets (dx, dy, dw, dh) / std from anchors.

    boxes, anchors: float [..., 4] xyxy, of positive width and height. dx and dy are in anchor widths and heights, dw
    and dh are log ratios. Law: decode(encode(b, a), a) == b.
    """
    anchor_centre, anchor_size = _centre_size(anchors)
    centre, size = _centre_size(boxes)
    deltas = torch.cat([(centre - anchor_centre) / anchor_size, torch.log(size / anchor_size)], dim=-1)
    return deltas / deltas.new_tensor(std)


def decode(deltas: Tensor, anchors: Tensor, std: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """Decode offsets [..., 4] from anchors [..., 4] to boxes, float [..., 4] xyxy; the shapes broadcast."""
    deltas = deltas * deltas.new_tensor(std)
    anchor_centre, anchor_size = _centre_size(anchors)
    centre = anchor_centre + deltas[..., :2] * anchor_size
    half = 0.5 * anchor_size * deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp()
    return torch.cat([centre - half, centre + half], dim=-1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size
