"""Plot evaluations and trainings as matplotlib figures, without window or global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from detkit.core.palette import class_colour
from detkit.metric.average_precision import Curve, area, falling_envelope
from detkit.metric.metrics_json import ConfusionCounts

MOST_IN_LEGEND = 20  # classes; beyond that each is a thin grey line
MOST_WITH_COUNTS = 25  # classes in a confusion matrix whose cells are still wide enough for a number
INK, SOFT, FAINT, GRID, BAR = "#101828", "#667085", "#c3c9d4", "#e4e7ec", "#3b82c4"


def save_plot(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, creating folders, and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def plot_curves(curves: Sequence[Curve], classes: Sequence[str], title: str = "Precision and recall") -> Figure:
    """Precision over recall of each class with its area AP, and the mean of the classes that have objects."""
    figure, axes = _new(6.4 if len(classes) <= MOST_IN_LEGEND else 5.2, 4.6, title)
    levels = np.linspace(0, 1, 101)
    known = [(label, curve) for label, curve in enumerate(curves) if curve.num_objects]
    sampled = []
    for label, curve in known:
        envelope = falling_envelope(curve.precision)
        sampled.append(np.append(envelope, 0.0)[np.searchsorted(curve.recall, levels)])
        recall, precision = _corners(curve.recall, envelope)
        if len(classes) <= MOST_IN_LEGEND:
            name = f"{_literal(classes[label])}  {100 * area(curve.recall, curve.precision):.1f}"
            axes.plot(recall, precision, drawstyle="steps-pre", color=_colour(label), linewidth=1.3, label=name)
        else:
            axes.plot(recall, precision, drawstyle="steps-pre", color=FAINT, linewidth=0.8)
    if known:
        mean = float(np.mean([area(curve.recall, curve.precision) for _, curve in known]))
        label_of_mean = f"mean  {100 * mean:.1f}"
        axes.plot(
            levels, np.mean(sampled, axis=0), color=INK, linewidth=2.2, label=label_of_mean, drawstyle="steps-pre"
        )
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    return figure


def plot_confusion(confusion: ConfusionCounts) -> Figure:
    """metrics["confusion"] as a picture: each cell coloured by its share of the row, numbers where they fit."""
    counts = np.asarray(confusion["counts"], np.int64)
    rows, columns = ([_literal(name) for name in names] for names in (confusion["rows"], confusion["columns"]))
    side = min(max(3.8, 0.42 * len(rows) + 1.6), 14.0)
    condition = f"score ≥ {confusion['score_threshold']:g}, IoU ≥ {confusion['iou_threshold']:g}"
    figure, axes = _new(side + 0.6, side, f"Confusion ({condition})")
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    size = 8 if len(rows) <= MOST_WITH_COUNTS else 5
    axes.set_xticks(range(len(columns)), columns, rotation=90 if len(columns) > 6 else 0, fontsize=size)
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    axes.set(xlabel="detected as", ylabel="object")
    axes.grid(False)
    axes.axhline(len(rows) - 1.5, color=SOFT, linewidth=0.8)
    axes.axvline(len(columns) - 1.5, color=SOFT, linewidth=0.8)
    if len(rows) <= MOST_WITH_COUNTS:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[row, column] > 0.55 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    return figure


def plot_stages(stages_ms: Mapping[str, float], title: str = "Time per image") -> Figure:
    """One bar for each stage, in the order given, with its milliseconds."""
    figure, axes = _new(6.4, 0.36 * len(stages_ms) + 1.3, title)
    bars = axes.barh(list(stages_ms), list(stages_ms.values()), color=BAR, height=0.62)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8, color=SOFT)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set(xlabel="ms")
    axes.margins(x=0.12)
    return figure


def plot_history(
    rows: Sequence[Mapping[str, float | None]], prefix: str = "train/loss/", title: str = "Training loss"
) -> Figure:
    """The values under `prefix` over steps, from the rows of metrics.jsonl; one line for each key."""
    figure, axes = _new(6.4, 3.6, title)
    keys = sorted({key for row in rows for key in row if key.startswith(prefix)})
    for index, key in enumerate(keys):
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        steps, values = zip(*points, strict=True) if points else ((), ())
        marker = "o" if len(points) <= 30 else None
        axes.plot(
            steps, values, label=key.removeprefix(prefix), color=_colour(index), linewidth=1.5, marker=marker, ms=3
        )
    if keys:
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel="step")
    axes.set_ylim(bottom=0)
    return figure


def _new(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8, color=GRID)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(GRID)
    return figure, axes


def _corners(
    recall: NDArray[np.float64], envelope: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the curve of steps turns, at most 2000 points, from recall 0 to the last, where it falls to 0."""
    first = np.flatnonzero(np.diff(recall, prepend=0.0) > 0)  # the best precision of each recall
    if len(first) == 0:
        return np.zeros(1), np.zeros(1)
    first = first[np.unique(np.linspace(0, len(first) - 1, 2000).astype(int))]
    recall, envelope = recall[first], envelope[first]
    return np.concatenate([[0.0], recall, recall[-1:]]), np.concatenate([envelope[:1], envelope, [0.0]])


def _literal(name: str) -> str:
    return name.replace("$", r"\$")  # two of them would be read as a formula


def _colour(label: int) -> tuple[float, float, float]:
    red, green, blue = class_colour(label)
    return red / 300, green / 300, blue / 300  # a little darker than on pictures: lines are thin on white
