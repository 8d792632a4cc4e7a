"""Run `detkit export`: write a checkpoint as ONNX or a PyTorch program and compare its detections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from detkit.checkpoint.build import build_from_checkpoint, build_source, with_inference_settings
from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.darknet.program import with_program
from detkit.checkpoint.store import find_checkpoint
from detkit.config.instantiate import build
from detkit.core.environment import describe_environment
from detkit.core.errors import UserError
from detkit.data.synthetic.synthetic_scene import draw_scene
from detkit.evaluate.draw_examples import spread
from detkit.evaluate.evaluate import merge_data, read_test_split
from detkit.export.graph import Graph
from detkit.export.metadata import describe
from detkit.export.onnx_runtime import Arrays, OnnxGraph
from detkit.export.onnx_writer import OPSETS, write_onnx
from detkit.export.parity import Parity, difference, summarise
from detkit.export.torch_program import Program, write_program
from detkit.image.read import read_image
from detkit.image.source import find_sources
from detkit.infer.loaded_detector import LoadedDetector, load
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.model.graph_detector import GraphDetector
from detkit.model.postprocess import NMSPostprocess
from detkit.profiling.timing import interleaved_ms
from detkit.task.detection.task import DetectionTask


class Allowed(TypedDict):
    """How far a detection may be from its partner."""

    box_px: float
    score: float


class Checked(TypedDict):
    """Whether an exported detector finds the same; batches: by the number of images in one."""

    passed: bool
    allowed: Allowed
    batches: dict[str, Parity]


class Latency(TypedDict, total=False):
    """Milliseconds of an image by how it runs, and of the graph of an ONNX file by kind of operator."""

    latency_ms: dict[str, float]
    operator_ms: dict[str, float]


class Report(Checked, Latency):
    """What is written beside a file; images: where those are from that it was checked on."""

    file: str
    images: str
    environment: Mapping[str, object]


FORMATS = {"onnx": (".onnx", write_onnx), "torch": (".pt2", write_program)}


def run_export(config: DictConfig) -> int:
    """Write the file and its report as `configs/export.yaml` says; returns 0, or 1 where it finds something else."""
    if config.format not in FORMATS:
        raise UserError(f"format={config.format}: choose one of {', '.join(FORMATS)}")
    suffix, write = FORMATS[config.format]
    if config.opset is not None and config.format != "onnx":
        raise UserError(f"opset={config.opset}: only format=onnx has one")
    if config.opset is not None and config.opset not in OPSETS:
        raise UserError(f"opset={config.opset}: choose one of {', '.join(map(str, OPSETS))}")
    checkpoint = find_checkpoint(config.checkpoint)
    path = output_path(config.output, checkpoint, suffix)
    saved = load_checkpoint(checkpoint, trust=config.trust)
    if saved.graph is not None:
        raise UserError(f"checkpoint={checkpoint} is an exported file already")
    saved = with_program(saved, **config.darknet)
    saved = with_inference_settings(saved, preprocess=config.preprocess, postprocess=config.postprocess)
    detector = build_from_checkpoint(saved)
    source = build(config.get("proposal"), "proposal") or build_source(saved, for_any_image=True)
    eager = LoadedDetector(detector, classes=saved.classes, device="cpu", source=source)
    if not isinstance(eager.task, DetectionTask):
        raise UserError(f"checkpoint={checkpoint}: only detectors are exported; this model gives {eager.task.noun}")
    name = saved.name or path.stem
    images, where = test_images(config, saved, eager.task)  # before the long work: a mistyped path answers at once
    options = {} if config.opset is None else {"opset": config.opset}
    write(Graph(deepcopy(detector)), path, describe(detector, saved, name=name, licence=config.licence), **options)
    if config.format == "torch":
        written = GraphDetector(Program(path), num_classes=detector.num_classes, preprocess=detector.preprocess)
        exported = LoadedDetector(written, classes=saved.classes, device="cpu", source=source)
    else:
        exported = load(path, device="cpu", source=source, trust=config.trust)
    report: Report = {
        "file": path.name,
        "images": where,
        **check(eager, exported, images, **config.parity),
        **latency(eager, exported, images[0], config.repeats),
        "environment": describe_environment(torch.device("cpu")),
    }
    path.with_suffix(".parity.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(format_report(report))
    if not any(row["detections"] for row in report["batches"].values()):
        print(
            "not checked: nothing was found in these images; give source= with pictures of its objects, or lower "
            "postprocess.score_threshold, which is written into the file"
        )
    print(f"written to {path} ({path.stat().st_size / 1e6:.1f} MB) and {path.with_suffix('.parity.json')}")
    return 0 if report["passed"] else 1


def output_path(output: str | None, checkpoint: Path, suffix: str) -> Path:
    """Where the file goes: `output`, or beside the checkpoint.

    Raises UserError for another suffix, and for a folder: a name may not look like what it is not, or replace it.
    """
    path = Path(output) if output is not None else checkpoint.with_suffix(suffix)
    if path.is_dir():
        raise UserError(f"output={output} is a folder: name a file in it, output={path / checkpoint.stem}{suffix}")
    if path.suffix != suffix:
        raise UserError(f"output={output}: the name ends in {suffix}, as in output={path.with_suffix(suffix)}")
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise UserError(f"output={output}: {parent} is a file, not a folder")
    return path


def test_images(config: DictConfig, saved: Checkpoint, task: DetectionTask) -> tuple[list[NDArray[np.uint8]], str]:
    """The pictures that a file is checked on, and where they are from: `source`, the data of the checkpoint, or drawn.

    Raises UserError where `source` holds none.
    """
    if config.source is not None:
        files = find_sources(config.source)
        return [read_image(files[index]) for index in spread(len(files), config.images)], str(config.source)
    try:
        data = merge_data({}, saved.data_config, saved.trust)
        annotations = read_test_split(data, None, saved.classes, task)
        paths = [annotations.image_paths[index] for index in spread(len(annotations), config.images)]
        return [read_image(path) for path in paths], annotations.source
    except UserError:  # the data is not here
        sizes = ((300, 400), (480, 360), (320, 320))
        return [draw_scene(0, index, sizes[index % 3]).image for index in range(config.images)], "drawn scenes"


def check(
    eager: LoadedDetector,
    exported: LoadedDetector,
    images: Sequence[NDArray[np.uint8]],
    *,
    batch_sizes: Sequence[int],
    box_px: float,
    score: float,
) -> Checked:
    """How far apart two detectors are at each batch size; box_px, score: the differences allowed."""
    settings = eager.detector.get_submodule("postprocess")
    assert isinstance(settings, NMSPostprocess)
    threshold, most = settings.score_threshold, settings.most_detections(eager.detector.num_classes)
    batches = {}
    for size in batch_sizes:
        wanted, found = (loaded.predict(list(images), batch_size=size) for loaded in (eager, exported))
        differences = [
            difference(*pair, threshold=threshold, most=most, box_px=box_px, score=score)
            for pair in zip(wanted, found, strict=True)
        ]
        batches[str(size)] = summarise(differences, box_px=box_px, score=score)
    compared = sum(row["detections"] for row in batches.values())
    return {
        "passed": compared > 0 and all(row["passed"] for row in batches.values()),
        "allowed": {"box_px": box_px, "score": score},
        "batches": batches,
    }


def latency(eager: LoadedDetector, exported: LoadedDetector, image: NDArray[np.uint8], repeats: int) -> Latency:
    """How long an image takes eagerly, compiled where there is a compiler, and exported.

    In turn, `repeats` times. Of an ONNX file also where its time goes, by kind of operator.
    """
    sides = {"eager": eager}
    with suppress(UserError):  # no compiler here
        again = deepcopy(eager.detector)
        sides["compiled"] = LoadedDetector(again, classes=eager.classes, runtime="compiled", source=eager.source)
    sides["exported"] = exported
    runs = {side: partial(loaded.predict, image) for side, loaded in sides.items()}
    for run in runs.values():  # compiles
        run()
    found: Latency = {"latency_ms": interleaved_ms(runs, repeats)}
    graph = exported.detector.graph
    if isinstance(graph, OnnxGraph):
        feeds: list[Arrays] = []
        hook = graph.register_forward_pre_hook(lambda _, inputs: feeds.append(inputs[0]))
        exported.predict(image)
        hook.remove()
        found["operator_ms"] = graph.operator_ms(feeds[0], repeats)
    return found


def format_report(report: Report) -> str:
    """The report as a table, one line per batch size, and the latencies."""
    lines = [f"on {report['images']}", "batch  images  detections  box px   score    count  unmatched"]
    for size, row in report["batches"].items():
        lines.append(
            f"{size:>5}  {row['images']:>6}  {row['detections']:>10}  {row['box_px']:.1e}  {row['score']:.1e}"
            f"  {row['count_mismatch']:>5}  {row['unmatched']:>9}  {'passed' if row['passed'] else 'FAILED'}"
        )
    eager = report["latency_ms"]["eager"]
    times = [f"{name} {ms:.1f} ms ({ms / eager:.2f} of eager)" for name, ms in report["latency_ms"].items()]
    lines.append(f"one image, median: {', '.join(times)}")
    if "operator_ms" in report:
        longest = [f"{name} {ms:.1f} ms" for name, ms in list(report["operator_ms"].items())[:4]]
        lines.append(f"of the graph: {', '.join(longest)}")
    return "\n".join(lines)
