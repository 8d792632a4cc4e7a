"""A [region] section, YOLO v2: boxes from anchors on one grid, an objectness, classes that share one or do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detkit.model.darknet.section import Section
from detkit.model.dense import flatten_head
from detkit.ops.yolo_assign import AnchorRows, anchor_rows
from detkit.ops.yolo_coder import decode_anchored
from detkit.types import Batch


class RegionHead(nn.Module):
    """Centres sigmoid(t) + cell, sizes anchor * exp(t), in cells, as the anchors are (Redmon 2017, section 2).

    Symbols: B images, N rows = cells x anchors, C classes. softmax: whether the classes of a row add up to one.
    """

    anchors: Tensor

    def __init__(self, *, section: Section, num_classes: int) -> None:
        super().__init__()
        num, numbers = section.integer("num", 1), section.numbers("anchors")
        if section.integer("coords", 4) != 4:
            raise section.error(f"coords={section.options['coords']}: boxes have 4")
        if len(numbers) < 2 * num:
            raise section.error(f"num={num} anchors need {2 * num} numbers, anchors=... has {len(numbers)}")
        self.num_classes = num_classes
        self.softmax = bool(section.integer("softmax", 0))
        self.register_buffer("anchors", torch.tensor(numbers[: 2 * num]).view(num, 2), persistent=False)

    def forward(self, maps: list[Tensor], batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Per image boxes float32 [N, 1, 4] xyxy on the canvas, scores float32 [N, C]."""
        raw, rows = self.rows(maps, batch)
        classes = raw[..., 5:].softmax(dim=-1) if self.softmax else raw[..., 5:].sigmoid()
        boxes = decode_anchored(raw, rows.cells, rows.anchors, rows.strides)
        return list(boxes.unsqueeze(2)), list(raw[..., 4:5].sigmoid() * classes)

    def rows(self, maps: list[Tensor], batch: Batch) -> tuple[Tensor, AnchorRows]:
        """(logits float32 [B, N, 5 + C] of x, y, w, h, objectness, classes, and what the rows stand for)."""
        (grid,) = maps
        stride = batch.images.shape[3] // grid.shape[3]
        layout = anchor_rows([(grid.shape[2], grid.shape[3])], [stride], [self.anchors * stride])
        return flatten_head(grid.float(), 5 + self.num_classes), layout
