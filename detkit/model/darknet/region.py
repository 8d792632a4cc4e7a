"""Head of a [region] section, YOLO v2: anchors on one grid, an objectness, classes by softmax or sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.structures import Batch, Size, Target
from detkit.model.darknet.cell_size import cell_size
from detkit.model.darknet.section import Section
from detkit.model.dense import flatten_head
from detkit.model.dense_head.yolo_v1 import canvas_size
from detkit.ops.assign.match import NEGATIVE
from detkit.ops.assign.yolo_assign import AnchorRows, anchor_rows, assign_rows
from detkit.ops.box import paired_iou
from detkit.ops.yolo_coder import centre_size, decode_anchored, encode_anchored, in_cell


class RegionHead(nn.Module):
    """YOLO v2 head: centres sigmoid(t) + cell, sizes anchor * exp(t), in cells (Redmon 2017, section 2).

    Symbols: B images, N rows = cells x anchors, C classes, P rows with an object. softmax: whether the classes of a row
    share a softmax. rescore: whether the target of objectness is the IoU of the row's box, not 1. The scales weigh the
    terms. revision: see `build_darknet`.
    """

    anchors: Tensor

    def __init__(self, *, section: Section, num_classes: int, revision: int) -> None:
        super().__init__()
        self.revision = revision
        num, numbers = section.integer("num", 1), section.numbers("anchors")
        if section.integer("coords", 4) != 4:
            raise section.error(f"coords={section.options['coords']}: boxes have 4")
        if len(numbers) < 2 * num:
            raise section.error(f"num={num} anchors need {2 * num} numbers, anchors=... has {len(numbers)}")
        self.num_classes = num_classes
        self.softmax = bool(section.integer("softmax", 0))
        self.rescore = bool(section.integer("rescore", 0))
        self.ignore_iou = section.number("thresh", 0.5)
        self.object_scale = section.number("object_scale", 1)
        self.noobject_scale = section.number("noobject_scale", 1)
        self.class_scale = section.number("class_scale", 1)
        self.coord_scale = section.number("coord_scale", 1)
        self.register_buffer("anchors", torch.tensor(numbers[: 2 * num]).view(num, 2), persistent=False)

    def forward(self, maps: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, N, 1, 4] xyxy on the canvas and scores float32 [B, N, C]."""
        raw, rows = self.rows(maps, batch)
        classes = raw[..., 5:].softmax(dim=-1) if self.softmax else raw[..., 5:].sigmoid()
        boxes = decode_anchored(raw, rows.cells, rows.anchors, rows.strides)
        return boxes.unsqueeze(2), raw[..., 4:5].sigmoid() * classes

    def loss(self, maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute Darknet's region loss, mean over images: half of squared errors, classes by cross-entropy.

        Darknet also regresses all boxes to their anchors for the first 12,800 images; that is left out.
        """
        raw, rows = self.rows(maps, batch)
        boxes = decode_anchored(raw.detach(), rows.cells, rows.anchors, rows.strides)
        assert batch.targets is not None
        terms = [self._one_image(*one, rows, canvas_size(batch)) for one in zip(raw, boxes, batch.targets, strict=True)]
        return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}

    def _one_image(
        self, raw: Tensor, boxes: Tensor, target: Target, rows: AnchorRows, canvas: Size
    ) -> dict[str, Tensor]:
        matches = assign_rows(boxes, target["boxes"], target["difficult"], rows, ignore_iou=self.ignore_iou)
        positive, negative = matches >= 0, matches == NEGATIVE
        objects, mine = matches[positive], raw[positive]
        wanted, labels = target["boxes"][objects], target["labels"][objects]
        offsets = encode_anchored(wanted, rows.cells[positive], rows.anchors[positive], rows.strides[positive])
        away = (in_cell(mine) - in_cell(offsets)).square().sum(dim=1) / 2
        small = 2 - centre_size(wanted)[1].prod(dim=1) / (canvas[0] * canvas[1])  # small objects count up to twice
        found = paired_iou(boxes[positive], wanted) if self.rescore else torch.ones_like(small)
        if self.softmax:
            classes = F.cross_entropy(mine[:, 5:], labels, reduction="sum")
        else:
            one_hot = F.one_hot(labels, self.num_classes).float()
            classes = F.binary_cross_entropy_with_logits(mine[:, 5:], one_hot, reduction="sum")
        seen = (mine[:, 4].sigmoid() - found).square().sum() / 2
        unseen = raw[negative, 4].sigmoid().square().sum() / 2
        return {
            "box": self.coord_scale * (small * away).sum(),
            "objectness": self.object_scale * seen + self.noobject_scale * unseen,
            "class": self.class_scale * classes,
        }

    def rows(self, maps: list[Tensor], batch: Batch) -> tuple[Tensor, AnchorRows]:
        """Return logits float32 [B, N, 5 + C] of x, y, w, h, objectness, classes, and the layout of the rows."""
        (grid,) = maps
        size = (grid.shape[2], grid.shape[3])
        cell = cell_size(canvas_size(batch), size, self.revision)
        layout = anchor_rows([size], [cell], [torch.stack([self.anchors[:, axis] * cell[axis] for axis in (0, 1)], 1)])
        return flatten_head(grid.float(), 5 + self.num_classes), layout
