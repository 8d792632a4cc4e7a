"""SSD: one convolution per map classifies and regresses its default boxes (Liu et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.errors import UserError
from detkit.core.structures import Batch, FeatureSpec
from detkit.model.class_rows import labels_of_rows
from detkit.model.dense import DefaultBoxes, flatten_head, normal_init
from detkit.model.neck.ssd_extra import depthwise
from detkit.model.protocols import Part
from detkit.ops.assign.match import match_default_boxes
from detkit.ops.assign.objects import objects_of
from detkit.ops.assign.sample import hard_negatives
from detkit.ops.coder import decode, encode
from detkit.ops.iou_loss import iou_loss

# Symbols: B images, N default boxes of an image over all levels, A at each cell, C classes.
# Column 0 of the logits is background: only this file knows.


class SSDHead(nn.Module):
    """SSD head: softmax over background and classes, and offsets, of every default box.

    layer: makes the layer that reads one map, `layer(in_channels, out_channels)`: `plain_layer`, `separable_layer`.
    default_boxes: with as many levels as the features. positive_iou: see `detkit.ops.assign.match.match_bipartite`.
    negative_ratio: background boxes in the loss for each object box, per image, the hardest.
    box_std: offsets are learnt divided by these (the "variances" of the paper's code). box_loss: "smooth_l1" on
    offsets, or one of `detkit.ops.iou_loss` on boxes.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        num_classes: int,
        layer: Part[nn.Module],
        default_boxes: DefaultBoxes,
        positive_iou: float = 0.5,
        negative_ratio: float = 3.0,
        box_std: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
        box_loss: str = "smooth_l1",
    ) -> None:
        super().__init__()
        if default_boxes.num_levels != len(features):
            raise UserError(
                f"model.dense_head.default_boxes has {default_boxes.num_levels} levels, the features have "
                f"{len(features)} (strides {[feature.stride for feature in features]}): give ratios for each of "
                "them, and "
                "one scale more, or take the neck and the dense_head of one model"
            )
        self.default_boxes = default_boxes
        counts = [len(default_boxes.base(level)) for level in range(len(features))]
        self.num_logits = num_classes + 1
        self.logit = nn.ModuleList(
            layer(f.channels, a * self.num_logits) for f, a in zip(features, counts, strict=True)
        )
        self.delta = nn.ModuleList(layer(f.channels, a * 4) for f, a in zip(features, counts, strict=True))
        self.positive_iou = positive_iou
        self.negative_ratio = negative_ratio
        self.box_std = box_std
        self.iou_loss = iou_loss(box_loss, offsets="smooth_l1")

    def forward(self, features: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, N, 1, 4] xyxy on the canvas and scores float32 [B, N, C]."""
        logits, deltas, anchors = self.raw_outputs(features, batch)
        boxes = decode(deltas, anchors, self.box_std)
        return boxes[:, :, None], logits.softmax(dim=2)[:, :, 1:]

    def loss(self, features: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute `class` and `box` losses, each summed and divided by the number of matched boxes (equation 1)."""
        assert batch.targets is not None
        logits, deltas, anchors = self.raw_outputs(features, batch)
        objects = objects_of(batch.targets)
        matches = match_default_boxes(anchors, objects, positive=self.positive_iou)  # [B, N]
        image, positive = torch.nonzero(matches >= 0, as_tuple=True)
        gt = matches[image, positive]
        labels = torch.zeros_like(matches)
        labels[image, positive] = objects.labels[gt] + 1
        box = self.box_loss(deltas[image, positive], anchors[positive], objects.boxes[gt])
        entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        counted = (matches >= 0) | hard_negatives(entropy.detach(), matches, ratio=self.negative_ratio)
        count = max(len(positive), 1)
        return {"class": (entropy * counted).sum() / count, "box": box / count}

    def box_loss(self, deltas: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Sum the box loss of P matched default boxes: deltas, anchors and target boxes, all [P, 4]."""
        if self.iou_loss is not None:
            return self.iou_loss(decode(deltas, anchors, self.box_std), boxes).sum()
        return F.smooth_l1_loss(deltas, encode(boxes, anchors, self.box_std), reduction="sum")

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`: of the last convolution of each level's layer."""
        rows = {}
        for level, layer in enumerate(self.logit):
            last = [name for name, part in layer.named_modules() if isinstance(part, nn.Conv2d)][-1]
            path = f"logit.{level}.{last}" if last else f"logit.{level}"
            anchors = len(self.default_boxes.base(level))
            rows[path] = labels_of_rows(num_classes, others=1, anchors=anchors)
        return rows

    def raw_outputs(self, features: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Compute logits float32 [B, N, C + 1], offsets [B, N, 4] and the default boxes, [N, 4] on the canvas."""
        logits = [flatten_head(layer(x), self.num_logits) for layer, x in zip(self.logit, features, strict=True)]
        deltas = [flatten_head(layer(x), 4) for layer, x in zip(self.delta, features, strict=True)]
        anchors = self.default_boxes(features, batch.images.shape[-2:])
        return torch.cat(logits, dim=1).float(), torch.cat(deltas, dim=1).float(), anchors


def plain_layer(in_channels: int, out_channels: int) -> nn.Module:
    """Build a 3x3 convolution (SSD)."""
    layer = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def separable_layer(in_channels: int, out_channels: int) -> nn.Module:
    """Build a 3x3 depthwise convolution, then a 1x1 (SSDLite: MobileNetV2, section 6.2)."""
    layer = nn.Sequential(depthwise(in_channels), nn.Conv2d(in_channels, out_channels, 1))
    normal_init(layer, std=0.03)
    return layer
