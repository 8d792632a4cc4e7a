"""YOLO v3: anchors on three levels, independent logistic classes, boxes relative to their cell (Redmon & Farhadi 2018).

Symbols: B images, L levels, A anchors per cell, N rows = anchors of an image over all levels, P rows with an object, C
classes. A row holds (tx, ty, tw, th, objectness, class 0 .. class C-1), all but tw and th as logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.errors import UserError
from detkit.core.structures import Batch, FeatureSpec
from detkit.model.class_rows import labels_of_rows
from detkit.model.dense import flatten_head
from detkit.model.layers.conv import conv_norm
from detkit.ops.assign.match import NEGATIVE
from detkit.ops.assign.objects import objects_of
from detkit.ops.assign.yolo_assign import AnchorRows, anchor_rows, assign_batch_rows
from detkit.ops.iou_loss import iou_loss
from detkit.ops.yolo_coder import centre_size, decode_anchored, encode_anchored

Anchors = Sequence[Sequence[Sequence[float]]]  # per level, fine to coarse, (w, h) in pixels of the network's input
OBJECT_PRIOR = 0.01  # what objectness starts at: nearly all rows are background, and their loss would drown the rest


class YOLOv3Output(nn.Module):
    """Decode the maps of a YOLO v3 network to boxes and scores, and compute their loss.

    anchors: as many lists as maps, the same number in each. ignore_iou: unassigned predictions with a higher IoU with
    an object are excluded from the objectness loss. extra_iou: anchors whose shape has a higher IoU with an object's
    are responsible for it beside the best; null: the best alone, as published. box_loss: "squared" is the paper's error
    on offsets, times 2 - w * h as shares of the canvas; "giou", "diou" and "ciou" (`detkit.ops.iou_loss`) have the
    same weight.
    """

    anchors: Tensor

    def __init__(
        self,
        *,
        strides: Sequence[int],
        anchors: Anchors,
        num_classes: int,
        ignore_iou: float = 0.5,
        extra_iou: float | None = None,
        box_loss: str = "squared",
    ) -> None:
        super().__init__()
        check_anchors(anchors, strides)
        self.strides = list(strides)
        self.num_classes = num_classes
        self.ignore_iou, self.extra_iou = ignore_iou, extra_iou
        self.iou_loss = iou_loss(box_loss, offsets="squared")
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)

    def forward(self, maps: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, N, 1, 4] xyxy on the canvas and scores float32 [B, N, C] = objectness x class."""
        rows, layout = self.rows(maps)
        boxes = decode_anchored(rows, layout.cells, layout.anchors, layout.strides)
        scores = rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid()
        return boxes[:, :, None], scores

    def loss(self, maps: Sequence[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute box, objectness and class losses, summed over rows, divided by the number of images.

        Centres and objectness by binary cross-entropy, whose gradient is the difference that Darknet takes; sizes by
        half the squared difference of tw and th, which has that gradient too.
        """
        assert batch.targets is not None
        rows, layout = self.rows(maps)
        predicted = decode_anchored(rows, layout.cells, layout.anchors, layout.strides)
        objects = objects_of(batch.targets)
        assigned = assign_batch_rows(
            predicted.detach(), objects, layout, ignore_iou=self.ignore_iou, extra_iou=self.extra_iou
        )  # [B, N]
        image, row = torch.nonzero(assigned >= 0, as_tuple=True)
        owner = assigned[image, row]
        positive, wanted = rows[image, row], objects.boxes[owner]  # [P, 5 + C], [P, 4]

        height, width = batch.images.shape[-2:]
        weight = 2 - centre_size(wanted)[1].prod(dim=1) / (height * width)
        if self.iou_loss is not None:
            box = self.iou_loss(predicted[image, row], wanted)
        else:
            offsets = encode_anchored(wanted, layout.cells[row], layout.anchors[row], layout.strides[row])
            box = _logistic(positive[:, :2], offsets[:, :2].sigmoid()).sum(dim=1)
            box = box + 0.5 * (positive[:, 2:4] - offsets[:, 2:]).square().sum(dim=1)
        told = (assigned >= 0) | (assigned == NEGATIVE)
        objectness = _logistic(rows[..., 4], (assigned >= 0).float())
        classes = _logistic(positive[:, 5:], F.one_hot(objects.labels[owner], self.num_classes).float())
        return {
            "box": (weight * box).sum() / len(batch),
            "objectness": (objectness * told).sum() / len(batch),
            "class": classes.sum() / len(batch),
        }

    def rows(self, maps: Sequence[Tensor]) -> tuple[Tensor, AnchorRows]:
        """Rearrange maps [B, A * (5 + C), H, W], fine to coarse, to rows float32 [B, N, 5 + C], with their layout."""
        rows = torch.cat([flatten_head(level, 5 + self.num_classes) for level in maps], dim=1)
        grids = [(level.shape[2], level.shape[3]) for level in maps]
        return rows.float(), anchor_rows(grids, self.strides, list(self.anchors))


class YOLOv3(nn.Module):
    """YOLO v3 head: per level a 3x3 convolution to twice the channels and a 1x1 convolution.

    ignore_iou, extra_iou, box_loss: of `YOLOv3Output`.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        num_classes: int,
        anchors: Anchors,
        ignore_iou: float = 0.5,
        extra_iou: float | None = None,
        box_loss: str = "squared",
    ) -> None:
        super().__init__()
        strides = [feature.stride for feature in features]
        self.output = YOLOv3Output(
            strides=strides,
            anchors=anchors,
            num_classes=num_classes,
            ignore_iou=ignore_iou,
            extra_iou=extra_iou,
            box_loss=box_loss,
        )
        self.levels = nn.ModuleList()
        for feature, level_anchors in zip(features, anchors, strict=True):
            final = nn.Conv2d(2 * feature.channels, len(level_anchors) * (5 + num_classes), 1)
            start_rare(final, len(level_anchors), OBJECT_PRIOR)
            self.levels.append(nn.Sequential(conv_norm(feature.channels, 2 * feature.channels, 3), final))

    def forward(self, features: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.output(self.maps(features), batch)
        return found

    def loss(self, features: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        return self.output.loss(self.maps(features), batch)

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`."""
        rows = labels_of_rows(num_classes, others=5, anchors=self.output.anchors.shape[1])
        return {f"levels.{level}.1": rows for level in range(len(self.levels))}

    def maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Compute, per level, [B, A * (5 + C), H, W]."""
        return [level(feature) for level, feature in zip(self.levels, features, strict=True)]


def check_anchors(anchors: Anchors, strides: Sequence[int]) -> None:
    """Raise UserError if the anchors do not fit the levels of the model."""
    if len(anchors) != len(strides) or len({len(level) for level in anchors}) != 1:
        raise UserError(
            f"model.dense_head.anchors has {len(anchors)} levels of {[len(level) for level in anchors]} shapes; give "
            f"one list, equally long, for each of the strides {list(strides)}, fine to coarse"
        )


def start_rare(final: nn.Conv2d, num_anchors: int, prior: float) -> None:
    """Initialise `final` with small weights and an objectness of `prior` for every row of its map: in place."""
    nn.init.normal_(final.weight, std=0.01)
    assert final.bias is not None
    nn.init.zeros_(final.bias)
    with torch.no_grad():
        final.bias.view(num_anchors, -1)[:, 4] = torch.logit(torch.tensor(prior))


def _logistic(logits: Tensor, wanted: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
