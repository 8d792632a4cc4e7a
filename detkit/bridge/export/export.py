"""`detkit export`: a checkpoint as one file without Python, and a report on whether it finds the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from detkit.api import LoadedDetector, load
from detkit.bridge.export.graph import Graph
from detkit.bridge.export.metadata import describe
from detkit.bridge.export.parity import difference, summarise
from detkit.bridge.export.write import write_onnx
from detkit.config import build, build_from_checkpoint, build_source
from detkit.data.image import read_image
from detkit.data.synthetic_scene import draw_scene
from detkit.engine.checkpoint import find_checkpoint, load_checkpoint
from detkit.engine.environment import describe_environment
from detkit.engine.evaluate import merge_data, read_test_split
from detkit.engine.examples import spread
from detkit.engine.predict import find_sources
from detkit.engine.timing import interleaved_ms
from detkit.errors import UserError

SUFFIXES = {"onnx": ".onnx"}


def run_export(config: DictConfig) -> int:
    """Write the file and its report as `configs/export.yaml` says; returns 0, or 1 where it finds something else."""
    if config.format not in SUFFIXES:
        raise UserError(f"format={config.format}: choose one of {', '.join(SUFFIXES)}")
    checkpoint = find_checkpoint(config.checkpoint)
    saved = load_checkpoint(checkpoint)
    if "onnx" in saved:
        raise UserError(f"checkpoint={checkpoint} is an exported file already")
    path = Path(config.output or checkpoint.with_suffix(SUFFIXES[config.format]))
    detector = build_from_checkpoint(saved)
    for key, value in config.postprocess.items():
        if value is not None:
            setattr(detector.postprocess, str(key), value)
    source = build(config.get("proposal")) or build_source(saved, for_any_image=True)
    eager = LoadedDetector(detector, classes=saved["classes"], device="cpu", source=source)
    name = saved["config"].get("name") or path.stem
    images, where = test_images(config, saved)  # before the long work: a mistyped path answers at once
    write_onnx(Graph(deepcopy(detector)), path, describe(detector, saved, name=name, licence=config.licence))
    report = check(eager, load(path, device="cpu", source=source), images, **config.parity)
    report = {"file": path.name, "images": where, **report, "environment": describe_environment(torch.device("cpu"))}
    path.with_suffix(".parity.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(format_report(report))
    print(f"written to {path} ({path.stat().st_size / 1e6:.1f} MB) and {path.with_suffix('.parity.json')}")
    return 0 if report["passed"] else 1


def test_images(config: DictConfig, saved: dict[str, Any]) -> tuple[list[NDArray[np.uint8]], str]:
    """The pictures that a file is checked on, and where they are from: `source`, the data of the checkpoint, or drawn.

    Raises UserError where `source` holds none.
    """
    if config.source is not None:
        files = find_sources(config.source)
        return [read_image(files[index]) for index in spread(len(files), config.images)], str(config.source)
    try:
        annotations = read_test_split(merge_data({}, saved["config"]["data"]), None, saved["classes"])
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
    repeats: int,
) -> dict[str, Any]:
    """JSON-ready: how far apart two detectors are at each batch size, and how long each takes for one image.

    box_px, score: the differences that are allowed. repeats: how often each is timed, in turn.
    """
    settings: Any = eager.detector.postprocess
    threshold, most = settings.score_threshold, settings.max_detections
    batches = {}
    for size in batch_sizes:
        wanted, found = (loaded.predict(list(images), batch_size=size) for loaded in (eager, exported))
        differences = [
            difference(*pair, threshold=threshold, most=most, box_px=box_px, score=score)
            for pair in zip(wanted, found, strict=True)
        ]
        batches[str(size)] = summarise(differences, box_px=box_px, score=score)
    runs = {"eager": partial(eager.predict, images[0]), "onnx": partial(exported.predict, images[0])}
    times = interleaved_ms(runs, repeats)
    return {
        "passed": all(row["passed"] for row in batches.values()),
        "allowed": {"box_px": box_px, "score": score},
        "batches": batches,
        "latency_ms": times,
    }


def format_report(report: dict[str, Any]) -> str:
    """The report as a table, one line per batch size, and the latencies."""
    lines = [f"on {report['images']}", "batch  images  detections  box px   score    count  unmatched"]
    for size, row in report["batches"].items():
        lines.append(
            f"{size:>5}  {row['images']:>6}  {row['detections']:>10}  {row['box_px']:.1e}  {row['score']:.1e}"
            f"  {row['count_mismatch']:>5}  {row['unmatched']:>9}  {'passed' if row['passed'] else 'FAILED'}"
        )
    eager = report["latency_ms"]["eager"]
    times = [f"{name} {ms:.1f} ms ({ms / eager:.2f} of eager)" for name, ms in report["latency_ms"].items()]
    return "\n".join([*lines, f"one image, median: {', '.join(times)}"])
