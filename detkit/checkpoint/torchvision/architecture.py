"""List the importable torchvision detectors: their detkit config and how their weights are renamed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from detkit.core.errors import UserError

Rule = tuple[str, str | Callable[[re.Match[str]], str]]  # their name, from its beginning, and ours


class ClassLayer(NamedTuple):
    """A layer with rows for each of their classes, column 0 of which is background.

    prefix: of its name in detkit. values: rows per class. background: whether detkit has that column too.
    """

    prefix: str
    values: int
    background: bool


@dataclass(frozen=True)
class Architecture:
    """One detector of torchvision.

    mark: the name of a weight by which it is known: the first in ARCHITECTURES whose mark is there decides.
    overrides: of `detkit train`, the config that it is. rules: renaming, the first that fits counts.
    class_layers: see there. logit: the bias by which classes are counted, and the one of four rows per anchor where
    there are anchors.
    exact_norms: prefix of the frozen batch norms that divide by the variance itself in the published weights.
    """

    name: str
    mark: str
    overrides: Sequence[str]
    rules: Sequence[Rule]
    class_layers: Sequence[ClassLayer]
    logit: tuple[str, str | None]
    exact_norms: str | None = None
    details: Callable[[Mapping[str, Tensor]], list[str]] = field(default=lambda state: [])

    def num_columns(self, state: Mapping[str, Tensor]) -> int:
        """Their classes, background included."""
        logits, deltas = self.logit
        for name in filter(None, self.logit):
            if name not in state:
                raise UserError(f"these weights of torchvision's {self.name} are not whole: {name} is missing")
        anchors = 1 if deltas is None else len(state[deltas]) // 4
        return len(state[logits]) // anchors


def _even(match: re.Match[str]) -> str:
    """Before torchvision 0.12 a tower's convolutions and ReLUs were numbered together."""
    side = "class" if match[1] == "classification" else "box"
    return f"dense_head.{side}_tower.{int(match[2]) // 2}.0."


def _thirds(match: re.Match[str]) -> str:
    """FCOS numbers the convolutions, norms and ReLUs of a tower together."""
    side = "class" if match[1] == "classification" else "box"
    return f"dense_head.{side}_tower.{int(match[2]) // 3}.{int(match[2]) % 3}."


RESNET: list[Rule] = [
    (r"backbone\.body\.(conv1|bn1)\.", r"backbone.stem.\1."),
    (r"backbone\.body\.", "backbone."),
]
TWO_STAGE: list[Rule] = [
    (r"backbone\.fpn\.", "neck.pyramid."),
    (r"rpn\.head\.conv\.([0-9])\.0\.", lambda match: f"proposer.head.conv.{2 * int(match[1])}."),
    (r"rpn\.head\.conv\.", "proposer.head.conv.0."),  # before torchvision 0.12
    (r"rpn\.head\.cls_logits\.", "proposer.head.objectness."),
    (r"rpn\.head\.bbox_pred\.", "proposer.head.delta."),
    (r"roi_heads\.box_head\.", "roi_head.box_head."),
    (r"roi_heads\.box_predictor\.cls_score\.", "roi_head.predictor.logit."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", "roi_head.predictor.delta."),
]
CONV_BOX_HEAD: list[Rule] = [
    (r"roi_heads\.box_head\.([0-3])\.", r"roi_head.box_head.convs.\1."),
    (r"roi_heads\.box_head\.5\.", "roi_head.box_head.fc."),
]
RETINA: list[Rule] = [
    *RESNET,
    (r"backbone\.fpn\.", "neck.pyramid."),
    (r"head\.classification_head\.conv\.([0-9])\.([01])\.", r"dense_head.class_tower.\1.\2."),
    (r"head\.regression_head\.conv\.([0-9])\.([01])\.", r"dense_head.box_tower.\1.\2."),
    (r"head\.(classification|regression)_head\.conv\.([0246])\.", _even),
    (r"head\.classification_head\.cls_logits\.", "dense_head.logit."),
    (r"head\.regression_head\.bbox_reg\.", "dense_head.delta."),
]
FCOS: list[Rule] = [
    *RESNET,
    (r"backbone\.fpn\.", "neck.pyramid."),
    (r"head\.(classification|regression)_head\.conv\.([0-9]+)\.", _thirds),
    (r"head\.classification_head\.cls_logits\.", "dense_head.logit."),
    (r"head\.regression_head\.bbox_reg\.", "dense_head.distance."),
    (r"head\.regression_head\.bbox_ctrness\.", "dense_head.centre."),
]
SSD: list[Rule] = [
    (r"head\.classification_head\.module_list\.", "dense_head.logit."),
    (r"head\.regression_head\.module_list\.", "dense_head.delta."),
]
SSD_VGG: list[Rule] = [
    (r"backbone\.scale_weight", "backbone.norm.weight"),
    (r"backbone\.features\.", "backbone.fine."),
    (r"backbone\.extra\.0\.7\.([13])\.", lambda match: f"backbone.coarse.{7 + int(match[1])}."),  # fc6 and fc7
    (r"backbone\.extra\.0\.", "backbone.coarse."),
    (r"backbone\.extra\.([1-5])\.", lambda match: f"neck.layers.{int(match[1]) - 1}."),
    *SSD,
]
SSDLITE: list[Rule] = [
    (r"backbone\.features\.0\.", "backbone.fine."),
    (r"backbone\.features\.1\.", "backbone.coarse."),
    (r"backbone\.extra\.", "neck.layers."),
    *SSD,
]
MOBILENET: list[Rule] = [
    (r"backbone\.body\.(14|15|16)\.", r"backbone.coarse.\1."),
    (r"backbone\.body\.", "backbone.fine."),
]

TWO_STAGE_CLASSES = (
    ClassLayer("roi_head.predictor.logit.", 1, True),
    ClassLayer("roi_head.predictor.delta.", 4, False),
)
TWO_STAGE_LOGIT = ("roi_heads.box_predictor.cls_score.bias", None)
MOBILENET_FPN = (
    "model=faster_rcnn_fpn",
    "model/backbone=mobilenet_v3",
    "model.backbone.norm=frozen",
    "model.backbone.norm_eps=1e-5",
    "model.strides=[32,32]",
    "model.proposer.anchors.sizes=[[32,64,128,256,512],[32,64,128,256,512],[32,64,128,256,512]]",
    "model.roi_pool.canonical_size=1e9",  # of two maps of one stride, all regions are read from the first
)
RETINA_LOGIT = ("head.classification_head.cls_logits.bias", "head.regression_head.bbox_reg.bias")


def _reduced_tail(state: Mapping[str, Tensor]) -> list[str]:
    """The published SSDLite has half the channels in its last blocks; one trained from ImageNet weights has not."""
    channels = len(state.get("backbone.features.1.0.3.0.weight", ()))
    return [f"model.backbone.reduced_tail={str(channels == 80).lower()}"]


ARCHITECTURES = [
    Architecture(
        "ssd300_vgg16",
        mark="backbone.scale_weight",
        overrides=(
            "model=ssd300",
            "model.backbone.mean=[122.99925,116.9991,103.9992]",  # Caffe's, of weights for inputs of 0..255
            "model.backbone.std=[1,1,1]",
            "model.dense_head.default_boxes.scales=[0.07,0.15,0.33,0.51,0.69,0.87,1.05]",
            "model.dense_head.default_boxes.limit=true",
        ),
        rules=SSD_VGG,
        class_layers=(ClassLayer("dense_head.logit.", 1, True),),
        logit=("head.classification_head.module_list.0.bias", "head.regression_head.module_list.0.bias"),
    ),
    Architecture(
        "ssdlite320_mobilenet_v3_large",
        mark="head.classification_head.module_list.0.1.weight",
        overrides=(
            "model=ssdlite",
            "model/backbone=mobilenet_v3",
            "model.backbone.mean=[127.5,127.5,127.5]",
            "model.backbone.std=[127.5,127.5,127.5]",
            "model.dense_head.default_boxes.limit=true",
            "model.postprocess.score_threshold=0.001",
            "model.postprocess.nms_iou=0.55",
            "model.postprocess.max_candidates=300",
            "model.postprocess.max_detections=300",
        ),
        rules=SSDLITE,
        class_layers=(ClassLayer("dense_head.logit.[0-9].1.", 1, True),),
        logit=("head.classification_head.module_list.0.1.bias", "head.regression_head.module_list.0.1.bias"),
        details=_reduced_tail,
    ),
    Architecture(
        "fcos_resnet50_fpn",
        mark="head.regression_head.bbox_ctrness.weight",
        overrides=("model=fcos", "model.postprocess.score_threshold=0.2"),
        rules=FCOS,
        class_layers=(ClassLayer("dense_head.logit.", 1, False),),
        logit=RETINA_LOGIT,
    ),
    Architecture(
        "retinanet_resnet50_fpn_v2",
        mark="head.classification_head.conv.0.1.weight",
        overrides=(
            "model=retinanet",
            "model.backbone.norm=live",
            "model.neck.from_backbone=true",
            "model.dense_head.norm=group",
            "model.dense_head.box_loss=giou",
        ),
        rules=RETINA,
        class_layers=(ClassLayer("dense_head.logit.", 1, False),),
        logit=RETINA_LOGIT,
    ),
    Architecture(
        "retinanet_resnet50_fpn",
        mark="head.classification_head.cls_logits.weight",
        overrides=("model=retinanet",),
        rules=RETINA,
        class_layers=(ClassLayer("dense_head.logit.", 1, False),),
        logit=RETINA_LOGIT,
        exact_norms="backbone.",
    ),
    Architecture(
        "fasterrcnn_mobilenet_v3_large_fpn",
        mark="backbone.body.16.0.weight",
        overrides=MOBILENET_FPN,
        rules=[*MOBILENET, *TWO_STAGE],
        class_layers=TWO_STAGE_CLASSES,
        logit=TWO_STAGE_LOGIT,
    ),
    Architecture(
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        mark="backbone.body.16.0.weight",  # the same weights: only a file's name tells them apart
        overrides=(
            *MOBILENET_FPN,
            "preprocess.short=320",
            "preprocess.max=640",
            "model.proposer.pre_nms=[2000,150]",
            "model.proposer.post_nms=[2000,150]",
            "model.proposer.score_threshold=0.05",
        ),
        rules=[*MOBILENET, *TWO_STAGE],
        class_layers=TWO_STAGE_CLASSES,
        logit=TWO_STAGE_LOGIT,
    ),
    Architecture(
        "fasterrcnn_resnet50_fpn_v2",
        mark="roi_heads.box_head.0.0.weight",
        overrides=(
            "model=faster_rcnn_fpn",
            "model/box_head=conv_fc",
            "model.backbone.norm=live",
            "model.neck.norm=batch",
            "model.proposer.num_convs=2",
        ),
        rules=[*RESNET, *CONV_BOX_HEAD, *TWO_STAGE],
        class_layers=TWO_STAGE_CLASSES,
        logit=TWO_STAGE_LOGIT,
    ),
    Architecture(
        "fasterrcnn_resnet50_fpn",
        mark="roi_heads.box_head.fc6.weight",
        overrides=("model=faster_rcnn_fpn",),
        rules=[*RESNET, *TWO_STAGE],
        class_layers=TWO_STAGE_CLASSES,
        logit=TWO_STAGE_LOGIT,
        exact_norms="backbone.",
    ),
]
