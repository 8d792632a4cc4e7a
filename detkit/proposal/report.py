"""Measure how well proposals cover the objects, as numbers, a table and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from detkit.core.palette import class_colour
from detkit.data.annotations import Annotations
from detkit.data.proposals import Proposals
from detkit.metric.recall import proposal_recall
from detkit.metric.records import GroundTruth
from detkit.view.numbers import percent
from detkit.view.plots import GRID, INK

COUNTS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(11))


def measure_proposals(proposals: Proposals, annotations: Annotations) -> dict[str, Any]:
    """JSON-ready: what was measured of `proposals` on the images of `annotations`, in the order of these.

    "by_count" has a row as `summarise_recall` gives it for the best 1, 3, 10, ... and for all proposals of an image,
    with recall_50, recall_55, ... recall_100; "ABO_all_objects" in it is the mean best overlap of the objects whatever
    their class. "seconds_per_image" is None where the file does not say. Difficult objects are left out.
    """
    truth = GroundTruth.from_annotations(annotations)
    largest = max(1, int(np.diff(proposals.offsets).max(initial=0)))
    counts = [count for count in COUNTS if count < largest] + [largest]
    found = proposal_recall(
        (proposals.of(index) for index in range(len(proposals))),
        truth,
        annotations.classes,
        counts=counts,
        iou_thresholds=IOU_THRESHOLDS,
    )
    asked = np.bincount(truth.labels[~truth.difficult], minlength=len(annotations.classes))
    by_count = {str(count): {**found[str(count)], "ABO_all_objects": None} for count in counts}
    for row in by_count.values():
        weighted = [row["ABO"][name] * int(n) for name, n in zip(annotations.classes, asked, strict=True) if n]
        row["ABO_all_objects"] = sum(weighted) / int(asked.sum()) if weighted else None
    return {
        "method": proposals.method,
        "parameters": dict(proposals.parameters),
        "source": annotations.source,
        "num_images": len(annotations),
        "num_objects": int(asked.sum()),
        "proposals_per_image": found["proposals_per_image"],
        "seconds_per_image": _seconds(proposals.seconds),
        "by_count": by_count,
    }


def format_report(report: Mapping[str, Any]) -> str:
    """The report as text."""
    per_image, seconds = report["proposals_per_image"], report["seconds_per_image"]
    lines = [
        f"{report['source']}: {report['num_images']} images, {report['num_objects']} objects"
        + ("" if per_image is None else f", {per_image:.0f} proposals per image")
        + ("" if seconds is None else f", {seconds['mean']:.3f} s per image (p95 {seconds['p95']:.3f})"),
        f"{'best':>8}{'recall@.5':>11}{'recall@.7':>11}{'recall@.9':>11}{'avg recall':>12}{'ABO':>8}{'MABO':>8}",
    ]
    for count, row in report["by_count"].items():
        numbers = [percent(row[key]) for key in ("recall_50", "recall_70", "recall_90", "average_recall")]
        overlaps = [percent(row[key]) for key in ("ABO_all_objects", "MABO")]
        cells = zip((*numbers, *overlaps), (11, 11, 11, 12, 8, 8), strict=True)
        lines.append(f"{count:>8}" + "".join(f"{number:>{width}}" for number, width in cells))
    return "\n".join(lines)


def plot_proposals(report: Mapping[str, Any]) -> Figure:
    """Recall over IoU for the best 100, 300, ... proposals, and over their number for some IoU."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    by_count = report["by_count"]
    shown = [count for count in by_count if int(count) >= 100] or list(by_count)
    for index, count in enumerate(shown):
        recalls = [by_count[count][f"recall_{round(100 * iou)}"] for iou in IOU_THRESHOLDS]
        _line(left, IOU_THRESHOLDS, recalls, index, f"best {count}")
    counts = [int(count) for count in by_count]
    curves = {"IoU 0.5": "recall_50", "IoU 0.7": "recall_70", "mean, IoU .5:.95": "average_recall", "MABO": "MABO"}
    for index, (name, key) in enumerate(curves.items()):
        _line(right, counts, [row[key] for row in by_count.values()], index, name)
    left.set(xlabel="IoU", ylabel="recall", xlim=(0.5, 1), ylim=(0, 1.02))
    right.set(xlabel="proposals per image", xscale="log", ylim=(0, 1.02))
    left.set_title(f"Proposals: {report['method']}", fontsize=10, loc="left", color=INK)
    for axes in (left, right):
        axes.grid(color=GRID, linewidth=0.6)
        axes.tick_params(labelsize=8, color=GRID)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _line(axes: Axes, x: Any, y: list[float | None], index: int, label: str) -> None:
    values = [np.nan if value is None else value for value in y]
    red, green, blue = class_colour(index)
    colour = (red / 300, green / 300, blue / 300)  # darker than on pictures: lines are thin on white
    axes.plot(x, values, color=colour, linewidth=1.6, marker="o", markersize=3, label=label)


def _seconds(seconds: NDArray[np.float64]) -> dict[str, float] | None:
    known = seconds[np.isfinite(seconds)]
    if not len(known):
        return None
    return {
        "mean": float(known.mean()),
        "p50": float(np.percentile(known, 50)),
        "p95": float(np.percentile(known, 95)),
    }
