"""[yolo] sections, YOLO v3 and v4: boxes from anchors on several grids, an objectness, independent classes.

Symbols: B images, A anchors of a section, N rows = cells x anchors over all sections, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.model.darknet.section import Section
from detkit.model.dense import flatten_head
from detkit.model.dense_head.yolo_v1 import canvas_size
from detkit.ops.match import NEGATIVE
from detkit.ops.yolo_assign import AnchorRows, anchor_rows, assign_rows
from detkit.ops.yolo_coder import MAX_LOG_SCALE, centre_size
from detkit.types import Batch, Size, Target

EDGE = 1e-4  # numbers that are to become logits keep this far from 0 and 1


class Rows(NamedTuple):
    """What the N rows of an image stand for; scale: scale_x_y of each, [N, 1]."""

    layout: AnchorRows
    scale: Tensor


class YoloHead(nn.Module):
    """All [yolo] sections of a network together: an object has one anchor among all of theirs.

    A centre is (scale_x_y * sigmoid(t) - (scale_x_y - 1) / 2 + cell) * stride, a size anchor * exp(t); with new_coords,
    where the layer before has applied the sigmoid, anchor * (2 * sigmoid(t))^2. anchors are in pixels of the input.
    """

    def __init__(self, *, sections: Sequence[Section], num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.scales = [section.number("scale_x_y", 1) for section in sections]
        self.new_coords = bool(_shared(sections, "new_coords", 0))
        self.ignore_iou = _shared(sections, "ignore_thresh", 0.5)
        for level, section in enumerate(sections):
            self.register_buffer(f"anchors{level}", torch.tensor(_anchors(section)), persistent=False)

    def forward(self, maps: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Boxes float32 [B, N, 1, 4] xyxy on the canvas, scores float32 [B, N, C]."""
        raw, rows = self.rows(maps, canvas_size(batch))
        scores = raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()
        return self.decode(raw, rows).unsqueeze(2), scores

    def loss(self, maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """The terms of YOLO v3 (Redmon 2018, section 2), summed over rows, mean over images.

        Of all anchors the one of the most similar shape answers for an object; other rows that already overlap one by
        more than ignore_thresh are not told that they see nothing.
        """
        raw, rows = self.rows(maps, canvas_size(batch))
        boxes = self.decode(raw.detach(), rows)
        assert batch.targets is not None
        terms = [self._one_image(*one, rows, canvas_size(batch)) for one in zip(raw, boxes, batch.targets, strict=True)]
        return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}

    def rows(self, maps: list[Tensor], canvas: Size) -> tuple[Tensor, Rows]:
        """(logits float32 [B, N, 5 + C] of x, y, w, h, objectness, classes, and what the rows stand for)."""
        raw = torch.cat([flatten_head(one.float(), 5 + self.num_classes) for one in maps], dim=1)
        grids = [(one.shape[2], one.shape[3]) for one in maps]
        strides = [canvas[1] // columns for _, columns in grids]
        anchors = [getattr(self, f"anchors{level}") for level in range(len(maps))]
        scales = [
            raw.new_full((height * width * len(shapes), 1), scale)
            for (height, width), shapes, scale in zip(grids, anchors, self.scales, strict=True)
        ]
        rows = Rows(anchor_rows(grids, strides, anchors), torch.cat(scales))
        return (torch.logit(raw, eps=EDGE) if self.new_coords else raw), rows

    def decode(self, raw: Tensor, rows: Rows) -> Tensor:
        """Boxes [..., N, 4] xyxy on the canvas that the logits [..., N, 5 + C] say."""
        layout, scale = rows
        centre = (scale * raw[..., :2].sigmoid() - (scale - 1) / 2 + layout.cells) * layout.strides
        if self.new_coords:
            growth = (2 * raw[..., 2:4].sigmoid()).square()
        else:
            growth = raw[..., 2:4].clamp(max=MAX_LOG_SCALE).exp()
        size = layout.anchors * growth
        return torch.cat([centre - size / 2, centre + size / 2], dim=-1)

    def _one_image(self, raw: Tensor, boxes: Tensor, target: Target, rows: Rows, canvas: Size) -> dict[str, Tensor]:
        layout = rows.layout
        matches = assign_rows(boxes, target["boxes"], target["difficult"], layout, ignore_iou=self.ignore_iou)
        positive = matches >= 0
        objects, mine = matches[positive], raw[positive]
        centre, size = centre_size(target["boxes"][objects])
        scale = rows.scale[positive]
        share = (centre / layout.strides[positive] - layout.cells[positive] + (scale - 1) / 2) / scale
        xy = F.binary_cross_entropy_with_logits(mine[:, :2], share.clamp(0, 1), reduction="none")
        growth = size / layout.anchors[positive]
        wanted = torch.logit(growth.sqrt() / 2, eps=EDGE) if self.new_coords else growth.log()
        wh = (mine[:, 2:4] - wanted).square() / 2
        small = 2 - size.prod(dim=1, keepdim=True) / (canvas[0] * canvas[1])  # small objects count up to twice
        told = positive | (matches == NEGATIVE)
        classes = F.one_hot(target["labels"][objects], self.num_classes).float()
        return {
            "box": (small * (xy + wh)).sum(),
            "objectness": F.binary_cross_entropy_with_logits(raw[told, 4], positive[told].float(), reduction="sum"),
            "class": F.binary_cross_entropy_with_logits(mine[:, 5:], classes, reduction="sum"),
        }


def _shared(sections: Sequence[Section], key: str, default: float) -> float:
    """The value of an option on which all sections must agree."""
    values = [section.number(key, default) for section in sections]
    for section, value in zip(sections, values, strict=True):
        if value != values[0]:
            raise section.error(f"{key}={value:g} differs from the {values[0]:g} of {sections[0]}")
    return values[0]


def _anchors(section: Section) -> list[list[float]]:
    """The (w, h) that the section's mask picks."""
    numbers = section.numbers("anchors")
    num = section.integer("num", 1)
    pairs = [numbers[i : i + 2] for i in range(0, len(numbers) - 1, 2)]
    mask = section.integers("mask") if "mask" in section.options else list(range(num))
    if num > len(pairs) or not all(0 <= index < num for index in mask):
        raise section.error(f"mask={mask} and num={num} do not fit {len(pairs)} anchors")
    return [pairs[index] for index in mask]
