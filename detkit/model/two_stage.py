"""Two-stage detectors, which propose regions and then classify and refine each: the R-CNN family as one program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from detkit.config.instantiate import complete
from detkit.core.structures import Batch, Detections, Target
from detkit.image.preprocess import Preprocess
from detkit.model.detector import Detector
from detkit.model.part import IMAGES, build_maps, check_losses, check_module, names_within, read_maps, require
from detkit.model.protocols import (
    Backbone,
    BoxHead,
    Neck,
    Part,
    Postprocess,
    Predictor,
    Proposer,
    RegionNetwork,
    RoIHead,
    RoIPooler,
)
from detkit.model.region_parts import check_region_parts

NETWORKS = ("backbone", "neck", "proposer")  # the stages before a region is looked at


class TwoStageDetector(Detector):
    """backbone -> neck -> proposer -> roi_head -> postprocess (Girshick 2014 and 2015, Ren 2015, Dai 2016)."""

    backbone: Backbone
    neck: Neck | nn.Identity
    proposer: Proposer
    roi_head: RoIHead
    postprocess: Postprocess

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | nn.Identity,
        proposer: Proposer,
        roi_head: RoIHead,
        postprocess: Postprocess,
        num_classes: int,
        preprocess: Preprocess,
    ) -> None:
        mean, std = backbone.mean, backbone.std
        if mean is None or std is None:  # R-CNN's: images are normalised for the network that reads its regions
            mean, std = _normalization_of(roi_head)
        super().__init__(num_classes=num_classes, preprocess=preprocess, mean=mean, std=std)
        self.backbone = backbone
        self.neck = neck
        self.proposer = proposer
        self.roi_head = roi_head
        self.postprocess = postprocess
        # parts without weights (the image itself, no neck, precomputed proposals) take no time and are no stages
        working = [name for name in NETWORKS if next(self.get_submodule(name).parameters(), None) is not None]
        self.stages = (*working, "roi_head", *names_within("roi_head", roi_head, "timed"), "postprocess")
        inner = names_within("proposer", proposer, "compilable") + names_within("roi_head", roi_head, "compilable")
        self.compilable = ("backbone", "neck", *inner)
        self.check_names()

    def fit_statistics(self, targets: Iterable[Target]) -> None:
        self.roi_head.fit_statistics(targets)

    def fuse_for_inference(self) -> None:
        self.roi_head.fuse_for_inference()

    def features(self, batch: Batch) -> list[Tensor]:
        """Compute the maps that proposer and roi_head read, fine to coarse."""
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
        """Propose regions of each image, best first, in the pixels of its file: float32 [P, 4] each."""
        proposals = self.proposer(self.features(batch), batch)
        return [
            self.preprocess.to_original(boxes, size)
            for boxes, size in zip(proposals, batch.original_sizes, strict=True)
        ]


def _normalization_of(roi_head: RoIHead) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean and standard deviation of the images that the network in a region head was trained on."""
    network: RegionNetwork | None = getattr(roi_head, "box_head", None)
    require(network, "model.box_head", mean=IMAGES, std=IMAGES)
    assert network is not None
    return network.mean, network.std


def build_two_stage(
    *,
    backbone: Part[Backbone],
    strides: Sequence[int],
    proposer: Part[Proposer],
    roi_head: Part[RoIHead],
    postprocess: Postprocess,
    num_classes: int,
    preprocess: Preprocess,
    neck: Part[Neck] | None = None,
    roi_pool: Part[RoIPooler] | None = None,
    box_head: Part[BoxHead] | None = None,
    predictor: Part[Predictor] | None = None,
) -> TwoStageDetector:
    """Assemble a two-stage detector: each part is given the shapes of the part before it.

    Parts are callables (`_partial_: true` in the config) except `postprocess`; parts that a model has no use for are
    None. strides: of the maps that the backbone gives, fine to coarse. Raises UserError where two parts do not fit,
    naming the key.
    """
    check_region_parts(roi_pool=roi_pool, box_head=box_head, predictor=predictor, roi_head=roi_head)
    trunk, pyramid, features = build_maps(backbone, strides, neck)
    parts: dict[str, RoIPooler | BoxHead | Predictor] = {}
    if roi_pool is not None:
        pooler: RoIPooler = complete(roi_pool, "model.roi_pool", features=features)
        parts["roi_pool"] = pooler
        if box_head is not None:
            require(pooler, "model.roi_pool", size="cells along a side of what it gives of a region")
            channels = features[0].channels
            region_head: BoxHead = complete(box_head, "model.box_head", in_channels=channels, size=pooler.size)
            parts["box_head"] = region_head
            if predictor is not None:
                require(region_head, "model.box_head", out_features="the numbers that it gives of a region")
                width = region_head.out_features
                parts["predictor"] = complete(predictor, "model.predictor", in_features=width, num_classes=num_classes)
    regions: Proposer = complete(proposer, "model.proposer", features=features)
    require(regions, "model.proposer", loss="(features, batch) -> proposals, losses by name")
    head: RoIHead = complete(roi_head, "model.roi_head", **parts)
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
