"""Exported detectors: the graph is the detector, the file is the graph, and what is wrong with a file is said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import assert_same, chatty, opinionated, scene, seen

import detkit
from detkit.checkpoint.build import build_source
from detkit.checkpoint.content import Checkpoint, Position
from detkit.commands.export import check, format_report, latency
from detkit.core.errors import UserError
from detkit.core.structures import Batch, Detections, FeatureSpec
from detkit.export.graph import Graph
from detkit.export.metadata import describe, read_content
from detkit.export.onnx_writer import write_onnx
from detkit.export.padded_proposals import crops, vote_map
from detkit.export.parity import difference, summarise
from detkit.export.torch_program import write_program
from detkit.image.preprocess import fixed_canvas
from detkit.infer.detect import place_for_inference
from detkit.infer.execution import Execution
from detkit.infer.loaded_detector import LoadedDetector
from detkit.model.detector import Detector
from detkit.model.graph_detector import stack_proposals
from detkit.model.roi_pool import CropWarp, PSRoIAlign

SMALL = "model.backbone.name=resnet10t"
SSD = ("model=ssd_light", SMALL, "preprocess.height=96", "preprocess.width=128")
YOLOX = ("model=yolox_light", SMALL, "preprocess=letterbox", "preprocess.size=96")
YOLO_V3 = ("model=yolo_v3_light", SMALL, "preprocess.short=96")  # canvases of any size
YOLOX_ANY = ("model=yolox_light", SMALL, "preprocess.short=96")
FASTER = ("model=faster_rcnn_light", SMALL, "preprocess.short=96")
FAST = ("model=fast_rcnn_light", SMALL, "preprocess.short=96")
RFCN = ("model=rfcn_light", "preprocess.short=96")
RFCN_ROUNDED = (*RFCN, "model/roi_pool=ps_roi_pool")
RCNN = ("model=rcnn_light", "model.box_head.backbone.name=resnet10t", "model.roi_pool.size=64", "preprocess.short=96")
RCNN_BY_CLASS = (*RCNN, "model.postprocess.max_detections=null", "model.postprocess.max_candidates=5")
FILTERED = (*FASTER, "model.proposer.filter_first=true", "model.proposer.min_size=24", "model.proposer.pre_nms=[60,60]")
ALLOWED = {"box_px": 0.05, "score": 1e-3}


def name(overrides: tuple[str, ...]) -> str:
    return " ".join(word.partition("=")[2] for word in overrides if word.startswith(("model=", "model/")))


@torch.no_grad()
def talkative(model: Detector) -> Detector:
    """The model, folded for inference, with scores that differ."""
    torch.manual_seed(0)
    if hasattr(model, "dense_head"):
        model = opinionated(model)
    else:
        for parameter in model.roi_head.parameters():  # type: ignore[union-attr]
            if parameter.ndim > 1:
                parameter.add_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
        model = chatty(model)
    return place_for_inference(model, Execution(torch.device("cpu"), channels_last=False))


def inputs_of(batch: Batch) -> list[torch.Tensor]:
    return [batch.images, torch.tensor(batch.sizes), torch.tensor(batch.original_sizes)]


def saved_of(model: Detector) -> Checkpoint:
    """As much of a checkpoint as metadata are made of."""
    config = {"name": "small", "proposal": None}
    return Checkpoint(
        model={},
        config=config,
        classes=["bright", "dark"],
        preprocess=model.preprocess.to_dict(),
        position=Position(step=7),
    )


def exported(model: Detector, path: Path) -> Path:
    write_onnx(Graph(model), path, describe(model, saved_of(model), name="small", licence="CC0-1.0"))
    return path


@pytest.mark.parametrize(
    "overrides", [SSD, YOLOX, YOLO_V3, FASTER, FILTERED, FAST, RFCN, RFCN_ROUNDED, RCNN, RCNN_BY_CLASS], ids=name
)
def test_the_graph_finds_what_the_detector_finds(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    model = talkative(build(*overrides, num_classes=2))
    batch = seen(model, [scene(0, 3), scene(1, 1)])
    if fixed_canvas(model.preprocess) is None:  # the second image is smaller than the canvas
        batch.sizes = [(height, width - 20 * index) for index, (height, width) in enumerate(batch.sizes)]
        batch.original_sizes = batch.sizes  # its short side is that of the detector: nothing is resized
    graph = Graph(model)
    regions = [stack_proposals(batch.proposals)] if graph.takes_regions and batch.proposals else []
    with torch.inference_mode():
        boxes, scores, labels, counts = graph(*inputs_of(batch), *regions)
        wanted = model.predict(batch)
    assert boxes.shape[1] == scores.shape[1] == model.postprocess.most_detections(2)  # type: ignore[union-attr, operator]
    for *found, count, one in zip(boxes, scores, labels, counts.tolist(), wanted, strict=True):
        assert_same(Detections(*(column[:count] for column in found)), one)
        assert all((column[count:] == rest).all() for column, rest in zip(found, (0, 0, -1), strict=True))


def test_votes_read_by_roi_align_are_those_of_ps_roi_align() -> None:
    torch.manual_seed(0)
    pool = PSRoIAlign(features=[FeatureSpec(5 * 9, 16)], size=3)
    maps, corner = torch.randn(2, 5 * 9, 12, 15), 150 * torch.rand(40, 2)
    boxes = torch.cat([corner, corner + 1 + 90 * torch.rand(40, 2)], dim=1)  # some reach over the border
    regions = torch.cat([torch.arange(40.0)[:, None] % 2, boxes], dim=1)
    torch.testing.assert_close(vote_map(pool, maps, regions), pool.read([maps], regions), rtol=0, atol=1e-5)


def test_crops_cut_by_roi_align_are_those_of_crop_warp() -> None:
    torch.manual_seed(0)
    pool = CropWarp(features=[FeatureSpec(3, 1)], size=24, context=3)
    images, corner = torch.randn(2, 3, 40, 50), torch.rand(40, 2) * 40
    boxes = torch.cat([corner, corner + 1 + 60 * torch.rand(40, 2)], dim=1)  # some reach over the border
    regions = torch.cat([torch.arange(40.0)[:, None] // 20, boxes], dim=1)
    wanted = pool([images], [boxes[:20], boxes[20:]])
    torch.testing.assert_close(crops(pool, images, regions), wanted, rtol=0, atol=1e-4)


def test_a_file_is_loaded_and_predicts_as_the_detector_did(
    build: Callable[..., Detector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = talkative(build(*SSD, num_classes=2))
    path = exported(model, tmp_path / "small.onnx")
    loaded = detkit.load(path, device="cpu")
    assert loaded.classes == ["bright", "dark"] and loaded.preprocess == model.preprocess
    with pytest.raises(UserError, match=r"preprocess\.side, postprocess\.nms_iou: an exported file has its settings"):
        detkit.load(path, preprocess={"side": 64}, postprocess={"nms_iou": 0.4, "max_detections": None})
    images = [
        scene(0, 3)[0].permute(1, 2, 0).numpy(),
        np.full((70, 50, 3), 90, np.uint8),
        scene(2, 2)[0].permute(1, 2, 0).numpy(),
    ]
    eager = LoadedDetector(model, classes=loaded.classes)
    report = check(eager, loaded, images, batch_sizes=(1, 3), **ALLOWED)
    assert report["passed"] and report["batches"]["3"]["detections"] > 0, report
    assert not check(eager, loaded, images[:1], batch_sizes=(1,), box_px=0.0, score=0.0)["passed"]
    with pytest.raises(UserError, match="leave precision=fp32"):
        detkit.load(path, device="cpu", precision="bf16").predict(images[0])
    monkeypatch.setattr(shutil, "which", lambda _: None)  # no compiler
    report |= latency(eager, loaded, images[0], repeats=1)
    assert report["latency_ms"].keys() == {"eager", "exported"} and report["operator_ms"]["Conv"] > 0
    assert "of the graph: " in format_report(report | {"images": "pictures"})


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [YOLOX, YOLOX_ANY, YOLO_V3, FASTER, FAST, RFCN, RFCN_ROUNDED, RCNN], ids=name)
def test_every_kind_of_file_passes_its_check(
    build: Callable[..., Detector], overrides: tuple[str, ...], tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = talkative(build(*overrides, num_classes=2))
    regions = build_source(SELECTIVE, for_any_image=True) if overrides in (FAST, RCNN) else None
    loaded = detkit.load(exported(model, tmp_path / "small.onnx"), device="cpu", source=regions)
    # of several shapes, and with noise all over: on a plain picture all scores tie
    pictures = [scene(seed, 3)[0].permute(1, 2, 0).numpy() for seed in range(3)]
    images = [pictures[0], pictures[1][:80], pictures[2][:, :90]]
    eager = LoadedDetector(model, classes=loaded.classes, source=regions)
    report = check(eager, loaded, images, batch_sizes=(1, 3), **ALLOWED)
    assert report["passed"] and report["batches"]["3"]["detections"] > 0, report


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [SSD, YOLOX, YOLO_V3, FASTER, FAST, RFCN], ids=name)
def test_a_program_runs_without_detkit_and_finds_the_same(
    build: Callable[..., Detector], overrides: tuple[str, ...], tmp_path: Path
) -> None:
    model = talkative(build(*overrides, num_classes=2))
    path = tmp_path / "small.pt2"
    graph = Graph(deepcopy(model))
    write_program(graph, path, describe(model, saved_of(model), name="small", licence=None))
    batch = seen(model, [scene(0, 3), scene(1, 1), scene(2, 2)])
    regions = [stack_proposals(batch.proposals)] if graph.takes_regions and batch.proposals else []
    torch.save([*inputs_of(batch), *regions], tmp_path / "inputs.pt")
    run = (
        "import sys, torch, torchvision\n"
        "about = {'detkit': ''}\n"
        "program = torch.export.load('small.pt2', extra_files=about).module()\n"
        "torch.save([about, *program(*torch.load('inputs.pt'))], 'found.pt')\n"
        "assert not any(name.startswith('detkit') for name in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    about, boxes, scores, labels, counts = torch.load(tmp_path / "found.pt")
    assert json.loads(about["detkit"])["classes"] == ["bright", "dark"]
    assert counts.sum() > 0
    with torch.inference_mode():
        for *found, count, one in zip(boxes, scores, labels, counts.tolist(), model.predict(batch), strict=True):
            assert_same(Detections(*(column[:count] for column in found)), one)
    with pytest.raises(UserError, match=r"small\.pt2.*may run code from it"):
        detkit.load(path)


@pytest.mark.slow
def test_onnx_is_a_runtime_of_any_checkpoint(build: Callable[..., Detector]) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    images = [scene(seed, 3)[0].permute(1, 2, 0).numpy() for seed in range(2)]
    found = {}
    for runtime in ("eager", "onnx"):
        torch.manual_seed(0)
        model = opinionated(build(*SSD, num_classes=2))
        loaded = LoadedDetector(model, classes=["a", "b"], runtime=runtime)
        assert loaded.detector.runtime == runtime
        found[runtime] = loaded.predict(images, batch_size=2)
    for one, other in zip(found["onnx"], found["eager"], strict=True):
        assert_same(one, other)


SELECTIVE = Checkpoint(
    model={},
    config={"proposal": {"_target_": "detkit.proposal.selective_search.SelectiveSearch"}},
    classes=[],
    preprocess={},
)


def test_a_part_that_onnx_does_not_have_is_named(build: Callable[..., Detector]) -> None:
    with pytest.raises(UserError, match=r"model\.roi_pool\.convention=torchvision cannot be exported"):
        Graph(build(*RFCN_ROUNDED, "model.roi_pool.convention=torchvision", num_classes=2))


def test_a_suppression_that_onnx_does_not_have_is_named(build: Callable[..., Detector]) -> None:
    with pytest.raises(UserError, match=r"nms_kind=diou cannot be exported: .*; with postprocess\.nms_kind=iou"):
        Graph(build(*SSD, "+model.postprocess.nms_kind=diou", num_classes=2))


def test_metadata_say_what_the_file_needs(build: Callable[..., Detector], tmp_path: Path) -> None:
    model = build(*SSD, num_classes=2)
    text = describe(model, saved_of(model), name="small", licence="CC0-1.0")
    about = json.loads(text)
    assert about["weights_licence"] == "CC0-1.0" and about["detkit_version"] == detkit.__version__
    assert about["thresholds"].keys() == {"score_threshold", "nms_iou", "max_detections"}
    content = read_content(text, tmp_path)
    assert content.classes == ["bright", "dark"] and content.step == 7
    assert content.preprocess == model.preprocess.to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "not written by detkit export"),
        ({"format": 9}, "another version"),
        ({"classes": "ab"}, "class names"),
        ({"preprocess": {"command": "true"}}, "no preprocess of detkit"),
    ],
)
def test_metadata_from_elsewhere_are_refused(
    build: Callable[..., Detector], change: dict[str, Any] | None, message: str
) -> None:
    model = build(*SSD, num_classes=2)
    about = json.loads(describe(model, saved_of(model), name="small", licence=None))
    with pytest.raises(UserError, match=message):
        read_content(None if change is None else json.dumps(about | change), Path("other.onnx"))


def test_a_file_that_is_no_onnx_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"broken\.onnx"):
        detkit.load(path)


def found(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, scores, labels = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64))


BOX, FAR = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 70.0, 70.0]


@pytest.mark.parametrize(
    ("other", "passed"),
    [
        (found((BOX, 0.9, 0), (FAR, 0.8, 1)), True),
        (found((FAR, 0.8001, 1), (BOX, 0.9, 0)), True),  # any order
        (found((BOX, 0.9, 0), (FAR, 0.8, 1), (BOX, 0.051, 1)), True),  # rounding decides about the last one
        (found((BOX, 0.9, 0), ([50.2, 50.0, 70.0, 70.0], 0.8, 1)), False),  # a fifth of a pixel off
        (found((BOX, 0.9, 0), (FAR, 0.805, 1)), False),
        (found((BOX, 0.9, 0), (FAR, 0.8, 0)), False),
        (found((BOX, 0.9, 0)), False),
        (found(), False),
    ],
)
def test_a_check_passes_only_what_is_the_same(other: Detections, passed: bool) -> None:
    one = found((BOX, 0.9, 0), (FAR, 0.8, 1))
    limits = {"threshold": 0.05, "most": 100}
    assert summarise([difference(one, other, **limits, **ALLOWED)], **ALLOWED)["passed"] is passed
    assert summarise([difference(other, one, **limits, **ALLOWED)], **ALLOWED)["passed"] is passed
