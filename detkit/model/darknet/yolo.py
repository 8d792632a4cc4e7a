"""Head of [yolo] sections, YOLO v3 and v4: anchors on several grids, an objectness, independent classes.

Symbols: B images, A anchors of a section, N rows = cells x anchors over all sections, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
from detkit.ops.iou_loss import IOU_LOSSES, IoULoss
from detkit.ops.yolo_coder import MAX_LOG_SCALE, centre_size

EDGE = 1e-4  # numbers that are to become logits keep this far from 0 and 1
LOSSES: dict[str, IoULoss] = {"iou": lambda found, wanted: 1 - paired_iou(found, wanted), **IOU_LOSSES}


class Rows(NamedTuple):
    """The layout of the N rows of an image.

    scale: scale_x_y of each, [N, 1]. weights: of the errors of its box, its objectness and its classes, [N, 3].
    """

    layout: AnchorRows
    scale: Tensor
    weights: Tensor


class YoloHead(nn.Module):
    """YOLO v3 and v4 head: all [yolo] sections together, so that an object has one anchor among all of theirs.

    A centre is (scale_x_y * sigmoid(t) - (scale_x_y - 1) / 2 + cell) * stride, a size anchor * exp(t); with new_coords,
    if the layer before has applied the sigmoid, anchor * (2 * sigmoid(t))^2. anchors are in pixels of the input.

    Of the loss settings of AlexeyAB's program it takes iou_loss, iou_thresh and the three normalizers. others: numbers
    of a row before its classes. revision: see `build_darknet`; the first has squared errors, whatever iou_loss says.
    """

    others = 5

    def __init__(self, *, sections: Sequence[Section], num_classes: int, revision: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.revision = revision
        self.extra_iou: float | None = None
        self.iou_loss: IoULoss | None = None
        self.weights = [(1.0, 1.0, 1.0)] * len(sections)
        if revision >= 2:
            self._read_losses(sections)
        self.scales = [section.number("scale_x_y", 1) for section in sections]
        self.new_coords = bool(_shared(sections, "new_coords", 0))
        self.ignore_iou = _shared(sections, "ignore_thresh", 0.5)
        for level, section in enumerate(sections):
            self.register_buffer(f"anchors{level}", torch.tensor(_anchors(section)), persistent=False)

    def forward(self, maps: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, N, 1, 4] xyxy on the canvas and scores float32 [B, N, C]."""
        raw, rows = self.rows(maps, canvas_size(batch))
        scores = raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()
        return self.decode(raw, rows).unsqueeze(2), scores

    def loss(self, maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute the loss of YOLO v3 (Redmon 2018, section 2), summed over rows, mean over images.

        The anchor of the most similar shape is responsible for an object, and with iou_thresh so are those whose shapes
        have a higher IoU with it; other rows that overlap an object by more than ignore_thresh are excluded from the
        objectness loss. With iou_loss the box loss is that of `detkit.ops.iou_loss`, and small objects count once.
        """
        raw, rows = self.rows(maps, canvas_size(batch))
        boxes = self.decode(raw, rows)
        assert batch.targets is not None
        terms = [self._one_image(*one, rows, canvas_size(batch)) for one in zip(raw, boxes, batch.targets, strict=True)]
        return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}

    def rows(self, maps: list[Tensor], canvas: Size) -> tuple[Tensor, Rows]:
        """Return logits float32 [B, N, others + C] of x, y, w, h, objectness, classes, and the layout of the rows."""
        raw = torch.cat([flatten_head(one.float(), self.others + self.num_classes) for one in maps], dim=1)
        grids = [(one.shape[2], one.shape[3]) for one in maps]
        strides = [cell_size(canvas, grid, self.revision) for grid in grids]
        anchors = [getattr(self, f"anchors{level}") for level in range(len(maps))]
        counts = [grid[0] * grid[1] * len(shapes) for grid, shapes in zip(grids, anchors, strict=True)]
        scales = [raw.new_full((count, 1), scale) for count, scale in zip(counts, self.scales, strict=True)]
        weights = [raw.new_tensor(own).expand(count, 3) for count, own in zip(counts, self.weights, strict=True)]
        rows = Rows(anchor_rows(grids, strides, anchors), torch.cat(scales), torch.cat(weights))
        return (torch.logit(raw, eps=EDGE) if self.new_coords else raw), rows

    def decode(self, raw: Tensor, rows: Rows) -> Tensor:
        """Decode logits [..., N, 4 or more] of x, y, w, h to boxes [..., N, 4] xyxy on the canvas."""
        layout, scale, _ = rows
        centre = (scale * raw[..., :2].sigmoid() - (scale - 1) / 2 + layout.cells) * layout.strides
        if self.new_coords:
            growth = (2 * raw[..., 2:4].sigmoid()).square()
        else:
            growth = raw[..., 2:4].clamp(max=MAX_LOG_SCALE).exp()
        size = layout.anchors * growth
        return torch.cat([centre - size / 2, centre + size / 2], dim=-1)

    def _one_image(self, raw: Tensor, boxes: Tensor, target: Target, rows: Rows, canvas: Size) -> dict[str, Tensor]:
        layout = rows.layout
        matches = assign_rows(
            boxes.detach(),
            target["boxes"],
            target["difficult"],
            layout,
            ignore_iou=self.ignore_iou,
            extra_iou=self.extra_iou,
        )
        positive = matches >= 0
        told = positive | (matches == NEGATIVE)
        objects, mine = matches[positive], raw[positive]
        weight, told_weight = rows.weights[positive], rows.weights[told, 1]
        if self.iou_loss is None:
            away = self._away(mine, target["boxes"][objects], rows, positive, canvas)
        else:
            away = self.iou_loss(boxes[positive], target["boxes"][objects])
        seen = F.binary_cross_entropy_with_logits(raw[told, 4], positive[told].float(), told_weight, reduction="sum")
        labels = F.one_hot(target["labels"][objects], self.num_classes).float()
        classes = F.binary_cross_entropy_with_logits(mine[:, 5:], labels, weight[:, 2:], reduction="sum")
        return {"box": (weight[:, 0] * away).sum(), "objectness": seen, "class": classes}

    def _away(self, mine: Tensor, wanted: Tensor, rows: Rows, positive: Tensor, canvas: Size) -> Tensor:
        """Compute the box error of P positive rows against `wanted` [P, 4]: [P], up to twice for small ones."""
        layout = rows.layout
        centre, size = centre_size(wanted)
        scale = rows.scale[positive]
        share = (centre / layout.strides[positive] - layout.cells[positive] + (scale - 1) / 2) / scale
        xy = F.binary_cross_entropy_with_logits(mine[:, :2], share.clamp(0, 1), reduction="none")
        growth = size / layout.anchors[positive]
        wanted = torch.logit(growth.sqrt() / 2, eps=EDGE) if self.new_coords else growth.log()
        wh = (mine[:, 2:4] - wanted).square() / 2
        small = 2 - size.prod(dim=1) / (canvas[0] * canvas[1])
        return small * (xy + wh).sum(dim=1)

    def _read_losses(self, sections: Sequence[Section]) -> None:
        """Read the sections' loss settings; defaults are AlexeyAB's, but 1 for squared errors."""
        kind = sections[0].word("iou_loss", "mse")
        for section in sections:
            if section.word("iou_loss", "mse") != kind:
                raise section.error(f"iou_loss={section.word('iou_loss', 'mse')} differs from {kind} of {sections[0]}")
        if kind != "mse" and kind not in LOSSES:
            raise sections[0].error(f"iou_loss={kind} is unknown (known: mse, {', '.join(LOSSES)})")
        self.iou_loss = LOSSES.get(kind)
        thresh = _shared(sections, "iou_thresh", 1)
        self.extra_iou = thresh if thresh < 1 else None
        self.weights = [
            (
                section.number("iou_normalizer", 1 if kind == "mse" else 0.75),
                section.number("obj_normalizer", 1),
                section.number("cls_normalizer", 1),
            )
            for section in sections
        ]


def _shared(sections: Sequence[Section], key: str, default: float) -> float:
    """Return the value of an option on which all sections must agree."""
    values = [section.number(key, default) for section in sections]
    for section, value in zip(sections, values, strict=True):
        if value != values[0]:
            raise section.error(f"{key}={value:g} differs from the {values[0]:g} of {sections[0]}")
    return values[0]


def _anchors(section: Section) -> list[list[float]]:
    """Return the (w, h) that the section's mask selects."""
    numbers = section.numbers("anchors")
    num = section.integer("num", 1)
    pairs = [numbers[i : i + 2] for i in range(0, len(numbers) - 1, 2)]
    mask = section.integers("mask") if "mask" in section.options else list(range(num))
    if num > len(pairs) or not all(0 <= index < num for index in mask):
        raise section.error(f"mask={mask} and num={num} do not fit {len(pairs)} anchors")
    return [pairs[index] for index in mask]
