"""Detectors that propose regions and then classify and refine each: the R-CNN family as one program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from detkit.data.preprocess import Preprocess
from detkit.model.detector import Detector
from detkit.model.part import Part, build_maps, check_losses, check_module, read_maps, require
from detkit.model.region_parts import check_region_parts
from detkit.target import complete
from detkit.types import Batch, Detections, Target

NETWORKS = ("backbone", "neck", "proposer")  # the stages before a region is looked at


class TwoStageDetector(Detector):
    """backbone -> neck -> proposer -> roi_head -> postprocess (Girshick 2014 and 2015, Ren 2015, Dai 2016)."""

    proposer: Any  # detkit.model.proposer
    roi_head: Any  # detkit.model.roi_head
    stages: tuple[str, ...] = ("backbone", "neck", "proposer", "roi_head", "roi_head.roi_pool", "postprocess")
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
        # what hands on the image, its map or regions from outside is no stage: it has no network and no time
        idle = {name for name in NETWORKS if next(self.get_submodule(name).parameters(), None) is None}
        self.stages = tuple(name for name in type(self).stages if name not in idle)

    def prepare(self, targets: Iterable[Target]) -> None:
        self.roi_head.prepare(targets)

    def fold(self) -> None:
        self.roi_head.fold()

    def features(self, batch: Batch) -> list[Tensor]:
        """The maps that proposer and roi_head read, fine to coarse."""
        return read_maps(self.backbone, self.neck, self.normalize(batch))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features = self.features(batch)
        proposals, losses = self.proposer.loss(features, batch)
        refined = check_losses(self.roi_head.loss(features, proposals, batch), self.roi_head, "model.roi_head")
        return check_losses(losses, self.proposer, "model.proposer") | refined

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
    None. strides: of the maps that the backbone gives, fine to coarse. Raises UserError where two parts do not fit,
    naming the key.
    """
    check_region_parts(roi_pool=roi_pool, tail=tail, predictor=predictor, roi_head=roi_head)
    trunk, pyramid, features = build_maps(backbone, strides, neck)
    parts: dict[str, Any] = {}
    if roi_pool is not None:
        parts["roi_pool"] = complete(roi_pool, "model.roi_pool", features=features)
    if tail is not None:
        require(parts["roi_pool"], "model.roi_pool", size="cells along a side of what it gives of a region")
        parts["tail"] = complete(tail, "model.tail", in_channels=features[0].channels, size=parts["roi_pool"].size)
    if predictor is not None:
        require(parts["tail"], "model.tail", out_features="the numbers that it gives of a region")
        width = parts["tail"].out_features
        parts["predictor"] = complete(predictor, "model.predictor", in_features=width, num_classes=num_classes)
    regions = complete(proposer, "model.proposer", features=features)
    require(regions, "model.proposer", loss="(features, batch) -> proposals, losses by name")
    head = complete(roi_head, "model.roi_head", **parts)
    require(head, "model.roi_head", loss="(features, proposals, batch) -> losses by name")
    check_module(postprocess, "model.postprocess")
    return TwoStageDetector(
        backbone=trunk,
        neck=pyramid,
        proposer=regions,
        roi_head=head,
        postprocess=postprocess,
        num_classes=num_classes,
        preprocess=preprocess,
    )
