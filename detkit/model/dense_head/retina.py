"""RetinaNet: every anchor of a pyramid is classified and regressed, under the focal loss (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from detkit.config.instantiate import complete
from detkit.core.errors import UserError
from detkit.core.structures import Batch, FeatureSpec
from detkit.model.class_rows import labels_of_rows
from detkit.model.dense import AnchorGrid, best_pairs, flatten_head, normal_init, start_at
from detkit.model.part import one_width
from detkit.model.protocols import Part
from detkit.ops.assign.match import IGNORE, match_anchors
from detkit.ops.assign.objects import objects_of
from detkit.ops.coder import decode, encode
from detkit.ops.iou_loss import iou_loss

# Symbols: B images, N anchors of an image over all levels, A at each cell, C classes, K candidates.


class RetinaHead(nn.Module):
    """RetinaNet head: two towers shared by all levels; one sigmoid per class, and offsets, of every anchor.

    anchors: an `AnchorGrid` that waits for its strides. channels, num_convs: of each tower.
    norm: "group" puts a group norm of 32 groups behind each convolution. positive_iou, negative_iou: an anchor is an
    object from the one on, or where it is the best of a ground truth, and background below the other.
    prior: the score that every anchor starts with. alpha, gamma: of the focal loss.
    box_loss: "l1" on offsets, summed over the four, or one of `detkit.ops.iou_loss` on boxes.
    num_candidates: the best pairs of anchor and class on each level that are detections.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        num_classes: int,
        anchors: Part[AnchorGrid],
        channels: int = 256,
        num_convs: int = 4,
        norm: Literal["none", "group"] = "none",
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        prior: float = 0.01,
        alpha: float = 0.25,
        gamma: float = 2.0,
        box_loss: str = "l1",
        num_candidates: int = 1000,
    ) -> None:
        super().__init__()
        strides = [feature.stride for feature in features]
        self.anchors: AnchorGrid = complete(anchors, "model.dense_head.anchors", strides=strides)
        self.num_classes = num_classes
        num_anchors, width = len(self.anchors.base(0)), one_width(features, "model.dense_head")
        self.class_tower = tower(width, channels, num_convs, norm)
        self.box_tower = tower(width, channels, num_convs, norm)
        last = channels if num_convs > 0 else width
        self.logit = nn.Conv2d(last, num_anchors * num_classes, 3, padding=1)
        self.delta = nn.Conv2d(last, num_anchors * 4, 3, padding=1)
        normal_init(self, std=0.01)
        start_at(self.logit, prior)
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.alpha, self.gamma = alpha, gamma
        self.iou_loss = iou_loss(box_loss, offsets="l1")
        self.num_candidates = num_candidates

    def forward(self, features: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, K, 1, 4] xyxy on the canvas and scores float32 [B, K, C].

        A candidate has a score of one class, and 0 of the others.
        """
        boxes, scores = [], []
        anchors = self.anchors(features, batch.images.shape[-2:])
        for level_logits, level_deltas, level_anchors in zip(*self.raw_outputs(features), anchors, strict=True):
            top, anchor, label = best_pairs(level_logits, self.num_candidates)
            boxes.append(decode(level_deltas.gather(1, anchor[..., None].expand(-1, -1, 4)), level_anchors[anchor]))
            blank = top.new_zeros(*top.shape, self.num_classes)
            scores.append(blank.scatter(2, label[..., None], top.sigmoid()[..., None]))
        return torch.cat(boxes, dim=1)[:, :, None], torch.cat(scores, dim=1)

    def loss(self, features: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute `class` (focal) and `box` losses, each summed and divided by the number of positive anchors."""
        assert batch.targets is not None
        level_logits, level_deltas = self.raw_outputs(features)
        logits, deltas = torch.cat(level_logits, dim=1), torch.cat(level_deltas, dim=1)  # [B, N, C], [B, N, 4]
        anchors = torch.cat(self.anchors(features, batch.images.shape[-2:]))  # [N, 4]
        objects = objects_of(batch.targets)
        matches = match_anchors(
            anchors, objects, positive=self.positive_iou, negative=self.negative_iou, force_best=True
        )  # [B, N]
        image, positive = torch.nonzero(matches >= 0, as_tuple=True)
        gt = matches[image, positive]
        wanted = torch.zeros_like(logits)
        wanted[image, positive, objects.labels[gt]] = 1
        counted = (matches != IGNORE)[..., None]
        box = self.box_loss(deltas[image, positive], anchors[positive], objects.boxes[gt])
        focal = sigmoid_focal_loss(logits, wanted, alpha=self.alpha, gamma=self.gamma, reduction="none")
        count = max(len(positive), 1)
        return {"class": (focal * counted).sum() / count, "box": box / count}

    def box_loss(self, deltas: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Sum the box loss of P positive anchors: deltas, anchors and target boxes, all [P, 4]."""
        if self.iou_loss is not None:
            return self.iou_loss(decode(deltas, anchors), boxes).sum()
        return F.l1_loss(deltas, encode(boxes, anchors), reduction="sum")

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`."""
        return {"logit": labels_of_rows(num_classes, anchors=len(self.anchors.base(0)))}

    def raw_outputs(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute, per level, logits float32 [B, H * W * A, C] and offsets [B, H * W * A, 4]."""
        logits = [flatten_head(self.logit(self.class_tower(x)), self.num_classes).float() for x in features]
        deltas = [flatten_head(self.delta(self.box_tower(x)), 4).float() for x in features]
        return logits, deltas


def tower(
    in_channels: int, channels: int, num_convs: int, norm: Literal["none", "group"], bias: bool = False
) -> nn.Sequential:
    """Build 3x3 convolutions, each with its norm and ReLU; bias: also if a norm follows."""
    if norm == "group" and num_convs > 0 and channels % 32 != 0:
        raise UserError(f"model.dense_head.channels={channels}: group norm needs a multiple of 32")
    layers = nn.Sequential()
    for index in range(num_convs):
        width = in_channels if index == 0 else channels
        conv = nn.Conv2d(width, channels, 3, padding=1, bias=bias or norm == "none")
        norms = [nn.GroupNorm(32, channels)] if norm == "group" else []
        layers.append(nn.Sequential(conv, *norms, nn.ReLU(inplace=True)))
    return layers
