"""Box coding of the YOLO networks: relative to the cell of the grid that holds the centre, and back.

Symbols: stride s pixels per cell; a cell is named by its column and row (cx, cy), whole numbers; an anchor is a shape
(pw, ph). Every function broadcasts over leading dimensions. Boxes are xyxy in pixels, anchors (w, h) in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.core.structures import Size

MAX_LOG_SCALE = 8.0  # a box grows at most e**8 = 2981 times over its anchor: exp() stays finite
EDGE = 1e-4  # a centre nearer than this to the border of its cell (in cells) counts as so near: logits stay finite


def cell_grid(size: Size, device: torch.device | str | None = None) -> Tensor:
    """List the cells (cx, cy) of a grid of (rows, columns), row by row: float32 [rows * columns, 2]."""
    rows, columns = (torch.arange(side, dtype=torch.float32, device=device) for side in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def decode_anchored(raw: Tensor, cells: Tensor, anchors: Tensor, strides: Tensor | float) -> Tensor:
    """Decode YOLO v2's and v3's boxes: centre (sigmoid(t_xy) + cell) * s, size anchor * exp(t_wh) (YOLO9000).

    raw: float [..., 4] of (tx, ty, tw, th); cells, anchors: [..., 2]; strides: a number, or [..., 1 or 2]. v2's anchors
    are published in cells: times the stride they are pixels. Gives boxes [..., 4]. Law: decode(encode(b)) == b for a
    box centred in its cell.
    """
    centre = (raw[..., :2].sigmoid() + cells) * strides
    return _corners(centre, anchors * raw[..., 2:4].clamp(max=MAX_LOG_SCALE).exp())


def encode_anchored(boxes: Tensor, cells: Tensor, anchors: Tensor, strides: Tensor | float) -> Tensor:
    """Encode boxes of positive width and height as the (tx, ty, tw, th) that `decode_anchored` decodes."""
    centre, size = centre_size(boxes)
    return torch.cat([torch.logit(centre / strides - cells, eps=EDGE), (size / anchors).log()], dim=-1)


def in_cell(raw: Tensor) -> Tensor:
    """Map (tx, ty, tw, th) [..., 4 or more] to (sigmoid(tx), sigmoid(ty), tw, th), on which YOLO v2 has its errors."""
    return torch.cat([raw[..., :2].sigmoid(), raw[..., 2:4]], dim=-1)


def decode_free(raw: Tensor, cells: Tensor, strides: Tensor | float) -> Tensor:
    """Decode YOLOX's boxes: centre (t_xy + cell) * s, size exp(t_wh) * s (Ge et al. 2021, section 2.1).

    Arguments as of `decode_anchored`.
    """
    size = raw[..., 2:4].clamp(max=MAX_LOG_SCALE).exp() * strides
    return _corners((raw[..., :2] + cells) * strides, size)


def decode_root(raw: Tensor, cells: Tensor, strides: Tensor, canvas: Size) -> Tensor:
    """Decode YOLO v1's boxes: centre (xy + cell) * s, size (rw, rh)^2 as shares of the canvas (Redmon 2016, section 2).

    raw: float [..., 4] of (x, y, rw, rh), where rw is the root of width / canvas width; strides: [2] pixels per cell
    along x and y; canvas: (h, w).
    """
    whole = raw.new_tensor([canvas[1], canvas[0]])
    return _corners((raw[..., :2] + cells) * strides, raw[..., 2:4].square() * whole)


def encode_root(boxes: Tensor, cells: Tensor, strides: Tensor, canvas: Size) -> Tensor:
    """Encode boxes as the (x, y, rw, rh), roots not negative, that `decode_root` decodes."""
    centre, size = centre_size(boxes)
    return torch.cat([centre / strides - cells, (size / size.new_tensor([canvas[1], canvas[0]])).sqrt()], dim=-1)


def centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Convert boxes xyxy [..., 4] to centres (x, y) and sizes (w, h), [..., 2] each."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def _corners(centre: Tensor, size: Tensor) -> Tensor:
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)
