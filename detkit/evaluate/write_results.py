"""Write the files of an evaluation: metrics.json, plots, annotated images, report; format its table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from detkit.core.plain import Metrics
from detkit.evaluate.run_report import write_report
from detkit.profiling.cpu_load import describe_load
from detkit.profiling.roofline import format_profile
from detkit.task.base import AnyTask
from detkit.view.numbers import percent
from detkit.view.plots import plot_stages, save_plot


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Write metrics.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def write_stages(folder: Path, metrics: Metrics) -> None:
    """Draw plots/stages.png into `folder` where time was measured."""
    if "timing" in metrics:
        save_plot(plot_stages(metrics["timing"]["stages_ms"]), folder / "plots" / "stages.png")


def write_pictures(folder: Path, task: AnyTask, pictures: Sequence[Image.Image]) -> None:
    """Write pictures/000.jpg, ... into `folder`, and report.html, which shows them and whatever else is there."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        picture.save(folder / "pictures" / f"{index:03}.jpg", quality=90)
    write_report(folder, task, pictures)


def format_table(task: AnyTask, metrics: Metrics) -> str:
    """The numbers of metrics.json as text: those of the task with their protocol, then time by stage."""
    parts = task.table(metrics)
    if "proposals" in metrics:
        parts.append(_proposals(metrics["proposals"]))
    if "timing" in metrics:
        parts.append(_timing(metrics["timing"]))
    if "profile" in metrics:
        parts.append(format_profile(metrics["profile"]))
    return "\n\n".join(parts)


def _proposals(proposals: Metrics) -> str:
    lines = [f"{'proposals':<12}{'recall@.5':>10}{'recall@.7':>10}{'avg recall':>11}"]
    for count, row in proposals.items():
        if isinstance(row, Mapping):
            lines.append(
                f"{count:<12}{percent(row['recall_50']):>10}{percent(row['recall_70']):>10}"
                f"{percent(row['average_recall']):>11}"
            )
    return "\n".join(lines)


def _timing(timing: Mapping[str, Any]) -> str:
    total, stages = timing["total_ms"], timing["stages_ms"]
    return "\n".join(
        [
            f"ms per image: mean {total['mean']:.1f}, p50 {total['p50']:.1f}, p95 {total['p95']:.1f}"
            f" (batch 1, {timing['images']} images after {timing['warmup']} to warm up, {timing['runtime']},"
            f" {timing['precision']}, {timing['device_name']}, {timing['threads']} threads)",
            "   ".join(f"{stage} {value:.1f}" for stage, value in stages.items()),
            *filter(None, [describe_regions(timing.get("regions")), describe_load(timing.get("load"))]),
        ]
    )


def describe_regions(regions: str | None) -> str:
    """A line on where the time of regions from outside comes from; "" where there are none, or they were computed."""
    lines = {
        "recorded": "regions: as recorded when they were computed, perhaps on another machine",
        "unknown": "regions: what they took is not known, and the total lacks it",
    }
    return lines.get(regions or "", "")
