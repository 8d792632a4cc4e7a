"""YOLO v2: anchors on one map, boxes relative to their cell, an objectness trained on IoU (YOLO9000, section 2).

Symbols: B images, A anchors per cell, N rows = anchors of an image, P rows with an object, C classes. A row holds (tx,
ty, tw, th, objectness, class 0 .. class C-1); the classes share a softmax.
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
from detkit.model.dense_head.yolo_v3 import check_anchors, start_rare
from detkit.ops.assign.match import NEGATIVE
from detkit.ops.assign.objects import objects_of
from detkit.ops.assign.yolo_assign import AnchorRows, anchor_rows, assign_batch_rows
from detkit.ops.box import paired_iou
from detkit.ops.yolo_coder import centre_size, decode_anchored, encode_anchored, in_cell

OBJECT_PRIOR = 0.1  # what objectness starts at; near 0 the slope of a squared sigmoid is too flat to leave it


class YOLOv2Output(nn.Module):
    """Decode the map of a YOLO v2 network to boxes and scores, and compute the loss of Darknet's region layer.

    anchors: (w, h) in pixels of the network's input (Darknet's files have them in cells). ignore_iou: unassigned
    predictions with a higher IoU with an object are excluded from the objectness loss. object_weight: of the objectness
    of rows with an object. settle_images: until this process has seen so many images, unassigned boxes are also
    regressed to their anchors, with weight 0.01.
    """

    anchors: Tensor
    seen: Tensor

    def __init__(
        self,
        *,
        stride: int,
        anchors: Sequence[Sequence[float]],
        num_classes: int,
        ignore_iou: float = 0.6,
        object_weight: float = 5.0,
        settle_images: int = 12800,
    ) -> None:
        super().__init__()
        check_anchors([anchors], [stride])
        self.stride = stride
        self.num_classes = num_classes
        self.ignore_iou, self.object_weight, self.settle_images = ignore_iou, object_weight, settle_images
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # images that `loss` was given in training

    def forward(self, grid: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, N, 1, 4] xyxy on the canvas and scores float32 [B, N, C] = objectness x class."""
        rows, layout = self.rows(grid)
        boxes = decode_anchored(rows, layout.cells, layout.anchors, layout.strides)
        scores = rows[..., 4:5].sigmoid() * rows[..., 5:].softmax(dim=-1)
        return boxes[:, :, None], scores

    def loss(self, grid: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute box, objectness and class losses, summed over rows, divided by the number of images.

        Half of squared differences, whose gradients are Darknet's, but for the classes: cross-entropy. Boxes of small
        objects count up to twice (2 - w * h as shares of the canvas). The target of the objectness of a row with an
        object is the IoU of its box, of all others 0.
        """
        assert batch.targets is not None
        rows, layout = self.rows(grid)
        predicted = decode_anchored(rows.detach(), layout.cells, layout.anchors, layout.strides)
        objects = objects_of(batch.targets)
        assigned = assign_batch_rows(predicted, objects, layout, ignore_iou=self.ignore_iou)  # [B, N]
        image, row = torch.nonzero(assigned >= 0, as_tuple=True)
        owner = assigned[image, row]
        positive, wanted = rows[image, row], objects.boxes[owner]  # [P, 5 + C], [P, 4]

        height, width = batch.images.shape[-2:]
        weight = 2 - centre_size(wanted)[1].prod(dim=1) / (height * width)
        offsets = encode_anchored(wanted, layout.cells[row], layout.anchors[row], layout.strides[row])
        box = weight * _squared(in_cell(positive), in_cell(offsets)).sum(dim=1)
        settling = (self.seen < self.settle_images) * 0.01
        settle = settling * _squared(in_cell(rows), rows.new_tensor([0.5, 0.5, 0, 0])).sum(dim=2) * (assigned < 0)
        overlap = paired_iou(predicted[image, row], wanted)
        objectness = self.object_weight * _squared(positive[:, 4].sigmoid(), overlap).sum()
        objectness = objectness + (_squared(rows[..., 4].sigmoid(), 0.0) * (assigned == NEGATIVE)).sum()
        if self.training:
            self.seen += len(batch)
        return {
            "box": (box.sum() + settle.sum()) / len(batch),
            "objectness": objectness / len(batch),
            "class": F.cross_entropy(positive[:, 5:], objects.labels[owner], reduction="sum") / len(batch),
        }

    def rows(self, grid: Tensor) -> tuple[Tensor, AnchorRows]:
        """Rearrange a map [B, A * (5 + C), H, W] to rows float32 [B, N, 5 + C], with their layout."""
        layout = anchor_rows([(grid.shape[2], grid.shape[3])], [self.stride], [self.anchors])
        return flatten_head(grid, 5 + self.num_classes).float(), layout


class YOLOv2(nn.Module):
    """YOLO v2 head: a 1x1 convolution on one map.

    ignore_iou, object_weight, settle_images: of `YOLOv2Output`.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        num_classes: int,
        anchors: Sequence[Sequence[float]],
        ignore_iou: float = 0.6,
        object_weight: float = 5.0,
        settle_images: int = 12800,
    ) -> None:
        super().__init__()
        if len(features) != 1:
            raise UserError(
                f"model.strides={[feature.stride for feature in features]}: YOLO v2 reads one map; take one "
                "stride, or two and model/neck=passthrough"
            )
        (feature,) = features
        self.output = YOLOv2Output(
            stride=feature.stride,
            anchors=anchors,
            num_classes=num_classes,
            ignore_iou=ignore_iou,
            object_weight=object_weight,
            settle_images=settle_images,
        )
        self.final = nn.Conv2d(feature.channels, len(anchors) * (5 + num_classes), 1)
        start_rare(self.final, len(anchors), OBJECT_PRIOR)

    def forward(self, features: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.output(self.final(features[-1]), batch)
        return found

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`."""
        return {"final": labels_of_rows(num_classes, others=5, anchors=len(self.output.anchors))}

    def loss(self, features: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        return self.output.loss(self.final(features[-1]), batch)


def _squared(values: Tensor, wanted: Tensor | float) -> Tensor:
    return 0.5 * (values - wanted).square()
