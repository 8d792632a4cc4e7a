"""Detectors that propose regions and then classify and refine each: the R-CNN family as one program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from detkit.data.preprocess import Preprocess
from detkit.model.detector import Detector
from detkit.model.part import Part, reject_strings
from detkit.types import Batch, Detections, Target


class TwoStageDetector(Detector):
    """backbone -> neck -> proposer -> roi_head -> postprocess (Girshick 2014 and 2015, Ren 2015, Dai 2016)."""

    proposer: Any  # detkit.model.proposer
    roi_head: Any  # detkit.model.roi_head
    stages = ("backbone", "neck", "proposer", "roi_head", "roi_head.roi_pool", "postprocess")
    dense = ("backbone", "neck", "proposer.head", "roi_head.tail")

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        proposer: nn.Module,
        roi_head: nn.Module,
        postprocess: nn.Module,
        num_classes: int,
        preprocess: Preprocess,
    ) -> None:
        # R-CNN's backbone has no weights: the images are normalised for the network that reads its regions
        reader: Any = roi_head.tail if backbone.mean is None else backbone
        super().__init__(num_classes=num_classes, preprocess=preprocess, mean=reader.mean, std=reader.std)
        self.backbone = backbone
        self.neck = neck
        self.proposer = proposer
        self.roi_head = roi_head
        self.postprocess = postprocess

    def prepare(self, targets: Iterable[Target]) -> None:
        self.roi_head.prepare(targets)

    def fold(self) -> None:
        self.roi_head.fold()

    def features(self, batch: Batch) -> list[Tensor]:
        """The maps that proposer and roi_head read, fine to coarse."""
        return self.neck(self.backbone(self.normalize(batch)))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features = self.features(batch)
        proposals, losses = self.proposer.loss(features, batch)
        return losses | self.roi_head.loss(features, proposals, batch)

    def predict(self, batch: Batch) -> list[Detections]:
        features = self.features(batch)
        proposals = self.proposer(features, batch)
        boxes, scores = self.roi_head(features, proposals)
        return self.postprocess(boxes, scores, batch, self.preprocess)

    def propose(self, batch: Batch) -> list[Tensor]:
        """The regions of each image, best first, in the pixels of its file: float32 [P, 4] each."""
        proposals = self.proposer(self.features(batch), batch)
        return [
            self.preprocess.to_original(boxes, size)
            for boxes, size in zip(proposals, batch.original_sizes, strict=True)
        ]


def build_two_stage(
    *,
    backbone: Part,
    strides: Sequence[int],
    proposer: Part,
    roi_head: Part,
    postprocess: nn.Module,
    num_classes: int,
    preprocess: Preprocess,
    neck: Part | None = None,
    roi_pool: Part | None = None,
    tail: Part | None = None,
    predictor: Part | None = None,
) -> TwoStageDetector:
    """Assemble a two-stage detector: each part is given the shapes of the part before it.

    Parts are callables (`_partial_: true` in the config) except `postprocess`; parts that a model has no use for are
    None. strides: of the maps that the backbone gives. Raises UserError where a part is a string, which is what
    `model.backbone=resnet50` makes of it.
    """
    reject_strings(
        backbone=backbone, neck=neck, proposer=proposer, roi_pool=roi_pool, tail=tail, predictor=predictor,
        roi_head=roi_head, postprocess=postprocess,
    )  # fmt: skip
    trunk = backbone(strides=strides)
    pyramid = None if neck is None else neck(features=trunk.features)
    features = trunk.features if pyramid is None else pyramid.features
    parts: dict[str, Any] = {}
    if roi_pool is not None:
        parts["roi_pool"] = roi_pool(features=features)
    if tail is not None:
        parts["tail"] = tail(in_channels=features[0].channels, size=parts["roi_pool"].size)
    if predictor is not None:
        parts["predictor"] = predictor(in_features=parts["tail"].out_features, num_classes=num_classes)
    return TwoStageDetector(
        backbone=trunk,
        neck=pyramid or nn.Identity(),
        proposer=proposer(features=features),
        roi_head=roi_head(**parts),
        postprocess=postprocess,
        num_classes=num_classes,
        preprocess=preprocess,
    )
