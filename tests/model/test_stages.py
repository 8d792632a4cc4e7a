"""The names of stages, and of what may be compiled, are those of submodules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from detkit.core.errors import UserError
from detkit.model.detector import Detector
from detkit.model.one_stage import OneStageDetector
from detkit.model.roi_head.fast_rcnn import FastRCNNHead
from detkit.model.two_stage import TwoStageDetector

TWO_STAGE = ("model=faster_rcnn_light", "model.backbone.name=resnet10t")


def parts_of(detector: Detector) -> dict[str, Any]:
    names = [name for name, _ in detector.named_children()]
    return {name: getattr(detector, name) for name in (*names, "num_classes", "preprocess")}


def test_a_two_stage_detector_has_the_stages_that_its_parts_name(build: Callable[..., Detector]) -> None:
    detector = build(*TWO_STAGE)
    assert detector.stages == ("backbone", "neck", "proposer", "roi_head", "roi_head.roi_pool", "postprocess")
    assert detector.compilable == ("backbone", "neck", "proposer.head", "roi_head.box_head")


def test_what_computes_nothing_is_no_stage(build: Callable[..., Detector]) -> None:
    detector = build("model=rcnn_light", "model.box_head.backbone.name=resnet10t")
    assert detector.stages == ("roi_head", "roi_head.roi_pool", "postprocess")
    assert detector.compilable == ("backbone", "neck", "roi_head.box_head")


@pytest.mark.parametrize("said, attribute", [("timed", "stages"), ("compilable", "compilable")])
def test_a_misspelt_name_of_a_part_is_refused(build: Callable[..., Detector], said: str, attribute: str) -> None:
    parts = parts_of(build(*TWO_STAGE))
    parts["roi_head"].__class__ = type("Own", (FastRCNNHead,), {said: ("tial",)})
    message = rf"{attribute} names roi_head\.tial, .* roi_head \(Own\) has roi_pool, box_head, predictor$"
    with pytest.raises(UserError, match=message):
        TwoStageDetector(**parts)


@pytest.mark.parametrize("attribute", ["stages", "compilable"])
def test_a_misspelt_name_of_a_detector_is_refused(build: Callable[..., Detector], attribute: str) -> None:
    parts = parts_of(build("model=yolo_v2_light", "model.backbone.name=resnet10t"))
    own: Any = type("Own", (OneStageDetector,), {attribute: ("backbone", "dense_haed.output")})
    with pytest.raises(
        UserError, match=rf"Own\.{attribute} names dense_haed\.output, .* Own has backbone, neck, dense_head"
    ):
        own(**parts)
