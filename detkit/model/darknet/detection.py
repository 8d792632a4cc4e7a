"""A [detection] section, YOLO v1: every cell has one set of class scores, and boxes by the roots of their sides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detkit.model.darknet.section import Section
from detkit.ops.yolo_coder import cell_grid
from detkit.types import Batch


class DetectionHead(nn.Module):
    """Class scores times confidence (Redmon 2016, section 2), clipped to 0..1 since nothing else bounds them.

    Symbols: B images, S cells along a side, n boxes of a cell, C classes. The layer before gives, of all cells, first
    the class scores, then the confidences, then x, y, w, h. softmax: of the class scores; sqrt: w and h are roots.
    """

    def __init__(self, *, section: Section, num_classes: int) -> None:
        super().__init__()
        if section.integer("coords", 4) != 4:
            raise section.error(f"coords={section.options['coords']}: boxes have 4")
        self.num_classes = num_classes
        self.side = section.integer("side", 7)
        self.num = section.integer("num", 1)
        self.softmax = bool(section.integer("softmax", 0))
        self.sqrt = bool(section.integer("sqrt", 0))

    def forward(self, maps: list[Tensor], batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Per image boxes float32 [S * S * n, 1, 4] xyxy on the canvas, scores float32 [S * S * n, C]."""
        classes, confidence, raw = self.split(maps)
        if self.softmax:
            classes = classes.softmax(dim=-1)
        scores = (confidence[..., None] * classes[:, :, None]).clamp(0, 1)  # [B, S * S, n, C]
        return list(self.decode(raw, batch).flatten(1, 2).unsqueeze(2)), list(scores.flatten(1, 2))

    def split(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(class scores [B, S * S, C], confidences [B, S * S, n], x, y, w, h [B, S * S, n, 4]), float32."""
        cells = self.side**2
        parts = maps[0].float().flatten(1).split([cells * self.num_classes, cells * self.num, cells * self.num * 4], 1)
        return (
            parts[0].unflatten(1, (cells, self.num_classes)),
            parts[1].unflatten(1, (cells, self.num)),
            parts[2].unflatten(1, (cells, self.num, 4)),
        )

    def decode(self, raw: Tensor, batch: Batch) -> Tensor:
        """Boxes xyxy on the canvas, [B, S * S, n, 4], that x, y in cells and w, h (roots of) shares of it say."""
        canvas = raw.new_tensor([batch.images.shape[3], batch.images.shape[2]])
        cells = cell_grid((self.side, self.side), raw.device)[:, None]  # [S * S, 1, 2]
        centre = (raw[..., :2] + cells) / self.side * canvas
        size = (raw[..., 2:].square() if self.sqrt else raw[..., 2:]) * canvas
        return torch.cat([centre - size / 2, centre + size / 2], dim=-1)
