"""Head of a [detection] section, YOLO v1: one set of class scores per cell, boxes by the roots of their sides."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.structures import Batch, Size, Target
from detkit.model.darknet.section import Section
from detkit.model.dense_head.yolo_v1 import assign_cells, canvas_size, responsible
from detkit.ops.assign.match import IGNORE
from detkit.ops.yolo_coder import cell_grid, decode_root, encode_root


class DetectionHead(nn.Module):
    """YOLO v1 head: scores are class scores times confidence (Redmon 2016, section 2), clipped to 0..1.

    Symbols: B images, S cells along a side, n boxes of a cell, C classes. The layer before gives, of all cells, first
    the class scores, then the confidences, then x, y, w, h. softmax: of the class scores; sqrt: w and h are roots;
    rescore: whether the target of a confidence is the IoU of its box, not 1. The scales weigh the terms of the loss.
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

    def forward(self, maps: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, S * S * n, 1, 4] xyxy on the canvas and scores float32 [B, S * S * n, C]."""
        classes, confidence, raw = self.split(maps)
        if self.softmax:
            classes = classes.softmax(dim=-1)
        scores = (confidence[..., None] * classes[:, :, None]).clamp(0, 1)  # [B, S * S, n, C]
        return self.decode(raw, canvas_size(batch)).flatten(1, 2).unsqueeze(2), scores.flatten(1, 2)

    def loss(self, maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute half the squared errors of Redmon 2016, section 2.2, weighted as the section says; mean over images.

        A cell is responsible for the first object centred in it, by the one of its boxes with the highest IoU, or by
        the nearest if none overlaps.
        """
        classes, confidence, raw = self.split(maps)
        if self.softmax:
            classes = classes.softmax(dim=-1)
        canvas = canvas_size(batch)
        boxes = self.decode(raw.detach(), canvas)
        assert batch.targets is not None
        terms = [
            self._one_image(*one, canvas) for one in zip(classes, confidence, raw, boxes, batch.targets, strict=True)
        ]
        return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}

    def _one_image(
        self, classes: Tensor, confidence: Tensor, raw: Tensor, boxes: Tensor, target: Target, canvas: Size
    ) -> dict[str, Tensor]:
        matches = assign_cells(target["boxes"], target["difficult"], self.side, canvas)
        busy = matches >= 0
        wanted, labels = target["boxes"][matches[busy]], target["labels"][matches[busy]]
        best, overlap = responsible(boxes[busy], wanted, canvas)  # [P], of P cells with an object
        mine = torch.arange(len(best), device=best.device), best
        cells, stride = self.cells(canvas, raw.device)
        offsets = encode_root(wanted, cells[busy], stride, canvas)
        if not self.sqrt:
            offsets = torch.cat([offsets[:, :2], offsets[:, 2:].square()], dim=1)
        found = overlap if self.rescore else torch.ones_like(overlap)
        seen = (found - confidence[busy][mine]).square().sum()
        silent = (matches != IGNORE)[:, None].expand_as(confidence).clone()
        silent[busy] = ~F.one_hot(best, self.num).bool()
        unseen = (silent * confidence.square()).sum()
        wrong = (F.one_hot(labels, self.num_classes) - classes[busy]).square().sum()
        return {
            "box": self.coord_scale * (offsets - raw[busy][mine]).square().sum() / 2,
            "confidence": (self.object_scale * seen + self.noobject_scale * unseen) / 2,
            "class": self.class_scale * wrong / 2,
        }

    def split(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Split into class scores [B, S * S, C], confidences [B, S * S, n] and x, y, w, h [B, S * S, n, 4], float32."""
        cells = self.side**2
        parts = maps[0].float().flatten(1).split([cells * self.num_classes, cells * self.num, cells * self.num * 4], 1)
        return (
            parts[0].unflatten(1, (cells, self.num_classes)),
            parts[1].unflatten(1, (cells, self.num)),
            parts[2].unflatten(1, (cells, self.num, 4)),
        )

    def decode(self, raw: Tensor, canvas: Size) -> Tensor:
        """Decode x, y in cells and w, h (or their roots) as shares of the canvas: boxes xyxy [B, S * S, n, 4]."""
        cells, stride = self.cells(canvas, raw.device)
        if not self.sqrt:  # a width that is not positive is no box, as in Darknet
            raw = torch.cat([raw[..., :2], raw[..., 2:].clamp(min=0).sqrt()], dim=-1)
        return decode_root(raw, cells[:, None], stride, canvas)

    def cells(self, canvas: Size, device: torch.device) -> tuple[Tensor, Tensor]:
        """List the cells [S * S, 2], and their width and height in pixels of the canvas (h, w), [2]."""
        side = torch.tensor([canvas[1], canvas[0]], device=device) / self.side
        return cell_grid((self.side, self.side), device), side
