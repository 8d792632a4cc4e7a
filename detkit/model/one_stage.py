"""One-stage detectors, which classify and place objects at every cell: SSD, RetinaNet and YOLO as one program."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detkit.config.instantiate import complete, name_of
from detkit.core.errors import UserError
from detkit.core.structures import Batch, Detections
from detkit.image.preprocess import Preprocess
from detkit.model.detector import Detector
from detkit.model.part import build_maps, check_losses, check_module, read_maps, require
from detkit.model.protocols import Backbone, DenseHead, Neck, Part, Postprocess


class OneStageDetector(Detector):
    """backbone -> neck -> dense_head -> postprocess (Liu 2016, Lin 2017, Redmon 2016)."""

    backbone: Backbone
    neck: Neck | nn.Identity
    dense_head: DenseHead
    postprocess: Postprocess
    stages = ("backbone", "neck", "dense_head", "postprocess")
    compilable = ("backbone", "neck", "dense_head")

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | nn.Identity,
        dense_head: DenseHead,
        postprocess: Postprocess,
        num_classes: int,
        preprocess: Preprocess,
    ) -> None:
        if backbone.mean is None or backbone.std is None:
            raise UserError(
                f"model.backbone ({name_of(backbone)}) hands on the image, for a model that reads regions of it: take "
                "a backbone with weights, such as model/backbone=timm"
            )
        super().__init__(num_classes=num_classes, preprocess=preprocess, mean=backbone.mean, std=backbone.std)
        self.backbone = backbone
        self.neck = neck
        self.dense_head = dense_head
        self.postprocess = postprocess
        self.check_names()

    def features(self, batch: Batch) -> list[Tensor]:
        """Compute the maps that the dense head reads, fine to coarse."""
        return read_maps(self.backbone, self.neck, self.normalize(batch))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return check_losses(self.dense_head.loss(self.features(batch), batch), self.dense_head, "model.dense_head")

    def predict(self, batch: Batch) -> list[Detections]:
        boxes, scores = self.dense_head(self.features(batch), batch)
        return self.postprocess(boxes, scores, batch, self.preprocess)


def build_one_stage(
    *,
    backbone: Part[Backbone],
    strides: Sequence[int],
    dense_head: Part[DenseHead],
    postprocess: Postprocess,
    num_classes: int,
    preprocess: Preprocess,
    neck: Part[Neck] | None = None,
) -> OneStageDetector:
    """Assemble a one-stage detector: each part is given the shapes of the part before it.

    Parts are callables (`_partial_: true` in the config) except `postprocess`. strides: of the maps that the
    backbone gives, fine to coarse. Raises UserError where two parts do not fit, naming the key.
    """
    trunk, pyramid, features = build_maps(backbone, strides, neck)
    head: DenseHead = complete(dense_head, "model.dense_head", features=features, num_classes=num_classes)
    require(head, "model.dense_head", loss="(features, batch) -> losses by name")
    check_module(postprocess, "model.postprocess")
    return OneStageDetector(
        backbone=trunk,
        neck=pyramid,
        dense_head=head,
        postprocess=postprocess,
        num_classes=num_classes,
        preprocess=preprocess,
    )
