"""Measure how well proposals cover the objects, as numbers, a table and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from detkit.core.palette import class_colour
from detkit.data.annotations import Annotations
from detkit.data.proposals import Proposals
from detkit.metric.recall import ProposalRecall, proposal_recall
from detkit.metric.records import GroundTruth
from detkit.view.numbers import percent
from detkit.view.plots import GRID, INK

COUNTS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(11))


class Seconds(TypedDict):
    """How long the proposals of an image took: mean, median and 95th percentile over the images."""

    mean: float
    p50: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class ProposalReport:
    """What was measured of the proposals of a split, difficult objects left out.

    method, parameters: how they were made. recall: of the best 1, 3, 10, ... and of all proposals of an image, at IoU
    0.5, 0.55, ... 1. ABO_all_objects: by the same counts, the mean best overlap of the objects whatever their class.
    seconds_per_image: None where nobody knows.
    """

    method: str
    parameters: Mapping[str, object]
    source: str
    num_images: int
    num_objects: int
    recall: ProposalRecall
    ABO_all_objects: dict[int, float | None]
    seconds_per_image: Seconds | None

    def to_dict(self) -> dict[str, object]:
        """JSON-ready: a row by each count under "by_count"."""
        return {
            "method": self.method,
            "parameters": dict(self.parameters),
            "source": self.source,
            "num_images": self.num_images,
            "num_objects": self.num_objects,
            "proposals_per_image": self.recall.proposals_per_image,
            "seconds_per_image": self.seconds_per_image,
            "by_count": {
                str(count): {**recall.to_dict(), "ABO_all_objects": self.ABO_all_objects[count]}
                for count, recall in self.recall.by_count.items()
            },
        }


def measure_proposals(proposals: Proposals, annotations: Annotations) -> ProposalReport:
    """Measure `proposals` on the images of `annotations`, in the order of these."""
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
    of_class = dict(zip(annotations.classes, asked.tolist(), strict=True))
    return ProposalReport(
        method=proposals.method,
        parameters=proposals.parameters,
        source=annotations.source,
        num_images=len(annotations),
        num_objects=int(asked.sum()),
        recall=found,
        ABO_all_objects={count: _weighted(recall.ABO, of_class) for count, recall in found.by_count.items()},
        seconds_per_image=_seconds(proposals.seconds),
    )


def _weighted(means: Mapping[str, float | None], counts: Mapping[str, int]) -> float | None:
    """The mean of all objects from that of each class; None where there are no objects."""
    sums = [mean * counts[name] for name, mean in means.items() if mean is not None]
    return sum(sums) / sum(counts.values()) if sums else None


def format_report(report: ProposalReport) -> str:
    """The report as text."""
    per_image, seconds = report.recall.proposals_per_image, report.seconds_per_image
    lines = [
        f"{report.source}: {report.num_images} images, {report.num_objects} objects"
        + ("" if per_image is None else f", {per_image:.0f} proposals per image")
        + ("" if seconds is None else f", {seconds['mean']:.3f} s per image (p95 {seconds['p95']:.3f})"),
        f"{'best':>8}{'recall@.5':>11}{'recall@.7':>11}{'recall@.9':>11}{'avg recall':>12}{'ABO':>8}{'MABO':>8}",
    ]
    for count, recall in report.recall.by_count.items():
        overlaps = (report.ABO_all_objects[count], recall.MABO)
        numbers = (*(recall.at_iou[iou] for iou in (0.5, 0.7, 0.9)), recall.average_recall, *overlaps)
        cells = zip(numbers, (11, 11, 11, 12, 8, 8), strict=True)
        lines.append(f"{count:>8}" + "".join(f"{percent(number):>{width}}" for number, width in cells))
    return "\n".join(lines)


def plot_proposals(report: ProposalReport) -> Figure:
    """Recall over IoU for the best 100, 300, ... proposals, and over their number for some IoU."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    by_count = report.recall.by_count
    shown = [count for count in by_count if count >= 100] or list(by_count)
    for index, count in enumerate(shown):
        _line(left, IOU_THRESHOLDS, [by_count[count].at_iou[iou] for iou in IOU_THRESHOLDS], index, f"best {count}")
    rows = by_count.values()
    curves = {
        "IoU 0.5": [row.at_iou[0.5] for row in rows],
        "IoU 0.7": [row.at_iou[0.7] for row in rows],
        "mean, IoU .5:.95": [row.average_recall for row in rows],
        "MABO": [row.MABO for row in rows],
    }
    for index, (name, values) in enumerate(curves.items()):
        _line(right, list(by_count), values, index, name)
    left.set(xlabel="IoU", ylabel="recall", xlim=(0.5, 1), ylim=(0, 1.02))
    right.set(xlabel="proposals per image", xscale="log", ylim=(0, 1.02))
    left.set_title(f"Proposals: {report.method}", fontsize=10, loc="left", color=INK)
    for axes in (left, right):
        axes.grid(color=GRID, linewidth=0.6)
        axes.tick_params(labelsize=8, color=GRID)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _line(axes: Axes, x: Sequence[float], y: Sequence[float | None], index: int, label: str) -> None:
    values = [np.nan if value is None else value for value in y]
    red, green, blue = class_colour(index)
    colour = (red / 300, green / 300, blue / 300)  # darker than on pictures: lines are thin on white
    axes.plot(x, values, color=colour, linewidth=1.6, marker="o", markersize=3, label=label)


def _seconds(seconds: NDArray[np.float64]) -> Seconds | None:
    known = seconds[np.isfinite(seconds)]
    if not len(known):
        return None
    return {
        "mean": float(known.mean()),
        "p50": float(np.percentile(known, 50)),
        "p95": float(np.percentile(known, 95)),
    }
