"""Detectors that classify and place objects at every cell of their maps: SSD, RetinaNet and YOLO as one program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from detkit.data.preprocess import Preprocess
from detkit.model.detector import Detector
from detkit.model.part import Part, reject_strings
from detkit.types import Batch, Detections


class OneStageDetector(Detector):
    """backbone -> neck -> dense_head -> postprocess (Liu 2016, Lin 2017, Redmon 2016)."""

    dense_head: Any  # detkit.model.dense_head
    stages = ("backbone", "neck", "dense_head", "postprocess")
    dense = ("backbone", "neck", "dense_head")

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        dense_head: nn.Module,
        postprocess: nn.Module,
        num_classes: int,
        preprocess: Preprocess,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            preprocess=preprocess,
            mean=backbone.mean,  # type: ignore[arg-type]
            std=backbone.std,  # type: ignore[arg-type]
        )
        self.backbone = backbone
        self.neck = neck
        self.dense_head = dense_head
        self.postprocess = postprocess

    def features(self, batch: Batch) -> list[Tensor]:
        """The maps that the dense head reads, fine to coarse."""
        return self.neck(self.backbone(self.normalize(batch)))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.dense_head.loss(self.features(batch), batch)

    def predict(self, batch: Batch) -> list[Detections]:
        boxes, scores = self.dense_head(self.features(batch), batch)
        return self.postprocess(boxes, scores, batch, self.preprocess)


def build_one_stage(
    *,
    backbone: Part,
    strides: Sequence[int],
    dense_head: Part,
    postprocess: nn.Module,
    num_classes: int,
    preprocess: Preprocess,
    neck: Part | None = None,
) -> OneStageDetector:
    """Assemble a one-stage detector: each part is given the shapes of the part before it.

    Parts are callables (`_partial_: true` in the config) except `postprocess`. strides: of the maps that the
    backbone gives. Raises UserError where a part is a string, which is what `model.backbone=resnet50` makes of it.
    """
    reject_strings(backbone=backbone, neck=neck, dense_head=dense_head, postprocess=postprocess)
    trunk = backbone(strides=strides)
    pyramid = None if neck is None else neck(features=trunk.features)
    features = trunk.features if pyramid is None else pyramid.features
    return OneStageDetector(
        backbone=trunk,
        neck=pyramid or nn.Identity(),
        dense_head=dense_head(features=features, num_classes=num_classes),
        postprocess=postprocess,
        num_classes=num_classes,
        preprocess=preprocess,
    )
