"""A [detection] section, YOLO v1: every cell has one set of class scores, and boxes by the roots of their sides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detkit.model.darknet.section import Section
from detkit.ops.box import paired_iou
from detkit.ops.yolo_coder import cell_grid, centre_size
from detkit.types import Batch, Target


class DetectionHead(nn.Module):
    """Class scores times confidence (Redmon 2016, section 2), clipped to 0..1 since nothing else bounds them.

    Symbols: B images, S cells along a side, n boxes of a cell, C classes. The layer before gives, of all cells, first
    the class scores, then the confidences, then x, y, w, h. softmax: of the class scores; sqrt: w and h are roots;
    rescore: whether a confidence learns the IoU of its box, not 1. The scales weigh the terms of the loss.
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
        self.rescore = bool(section.integer("rescore", 0))
        self.object_scale = section.number("object_scale", 1)
        self.noobject_scale = section.number("noobject_scale", 1)
        self.class_scale = section.number("class_scale", 1)
        self.coord_scale = section.number("coord_scale", 1)

    def forward(self, maps: list[Tensor], batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Per image boxes float32 [S * S * n, 1, 4] xyxy on the canvas, scores float32 [S * S * n, C]."""
        classes, confidence, raw = self.split(maps)
        if self.softmax:
            classes = classes.softmax(dim=-1)
        scores = (confidence[..., None] * classes[:, :, None]).clamp(0, 1)  # [B, S * S, n, C]
        return list(self.decode(raw, batch).flatten(1, 2).unsqueeze(2)), list(scores.flatten(1, 2))

    def loss(self, maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Half the squared errors of Redmon 2016, section 2.2, by the scales of the section; mean over images.

        A cell answers for the first object centred in it, by the one of its boxes that overlaps it most, or that is
        nearest where none does.
        """
        classes, confidence, raw = self.split(maps)
        if self.softmax:
            classes = classes.softmax(dim=-1)
        boxes = self.decode(raw.detach(), batch)
        canvas = raw.new_tensor([batch.images.shape[3], batch.images.shape[2]])
        assert batch.targets is not None
        terms = [
            self._one_image(*one, canvas) for one in zip(classes, confidence, raw, boxes, batch.targets, strict=True)
        ]
        return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}

    def _one_image(
        self, classes: Tensor, confidence: Tensor, raw: Tensor, boxes: Tensor, target: Target, canvas: Tensor
    ) -> dict[str, Tensor]:
        owner, spared = self.owners(target, canvas)
        busy = owner >= 0
        wanted, labels = target["boxes"][owner[busy]], target["labels"][owner[busy]]
        iou = paired_iou(boxes[busy], wanted[:, None])  # [P, n], P cells with an object
        gap = torch.cat(centre_size(boxes[busy]), dim=-1) - torch.cat(centre_size(wanted), dim=-1)[:, None]
        distance = gap.square().sum(dim=-1)
        best = torch.where(iou.amax(dim=1) > 0, iou.argmax(dim=1), distance.argmin(dim=1))
        rows = torch.arange(len(best), device=best.device)
        centre, size = centre_size(wanted)
        share = size / canvas
        place = centre / canvas * self.side
        numbers = torch.cat([place - place.floor(), share.sqrt() if self.sqrt else share], dim=1)
        found = iou[rows, best] if self.rescore else torch.ones_like(share[:, 0])
        told = confidence.new_ones(confidence.shape) * ~spared[:, None]
        told[busy] = told[busy].scatter(1, best[:, None], 0.0)  # of every box but those that answer
        seen = (found - confidence[busy][rows, best]).square().sum()
        unseen = (told * confidence.square()).sum()
        one_hot = nn.functional.one_hot(labels, self.num_classes)
        return {
            "box": self.coord_scale * (numbers - raw[busy][rows, best]).square().sum() / 2,
            "confidence": (self.object_scale * seen + self.noobject_scale * unseen) / 2,
            "class": self.class_scale * (one_hot - classes[busy]).square().sum() / 2,
        }

    def owners(self, target: Target, canvas: Tensor) -> tuple[Tensor, Tensor]:
        """(the object that each cell answers for, int64 [S * S], -1 for none; cells of difficult ones only, bool)."""
        boxes, difficult = target["boxes"], target["difficult"]
        column, row = (centre_size(boxes)[0] / canvas * self.side).long().clamp(0, self.side - 1).unbind(dim=1)
        cell, index = row * self.side + column, torch.arange(len(boxes), device=boxes.device)
        first = index.new_full((self.side**2,), len(boxes))
        first = first.scatter_reduce(0, cell[~difficult], index[~difficult], "amin")
        busy = first < len(boxes)
        spared = torch.zeros_like(busy)
        spared[cell[difficult]] = True
        return torch.where(busy, first, -1), spared & ~busy

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
