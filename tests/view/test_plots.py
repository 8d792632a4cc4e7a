from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from detkit.metric.average_precision import Curve
from detkit.view.plots import plot_confusion, plot_curves, plot_history, plot_stages, save_plot

CURVE = Curve(np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3]), np.array([0.9, 0.8, 0.7]), 2)
NO_OBJECTS = Curve(np.array([np.nan]), np.array([0.0]), np.array([0.9]), 0)
NO_DETECTIONS = Curve(np.zeros(0), np.zeros(0), np.zeros(0), 4)


def confusion(num_classes: int) -> dict:
    names = [f"class {label}" for label in range(num_classes)]
    counts = np.arange((num_classes + 1) ** 2).reshape(num_classes + 1, -1).tolist()
    return {
        "rows": [*names, "spurious"],
        "columns": [*names, "missed"],
        "counts": counts,
        "score_threshold": 0.5,
        "iou_threshold": 0.5,
    }


def test_curve_is_drawn_as_steps_with_its_area():
    axes = plot_curves([CURVE, NO_OBJECTS, NO_DETECTIONS], ["cat", "dog", "cow"]).axes[0]
    x, y = axes.lines[0].get_data()
    assert (np.diff(x) * y[1:]).sum() == pytest.approx(0.5 + 0.5 * 2 / 3)  # steps-pre: y up to x
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["cat  83.3", "cow  0.0", "mean  41.7"]


@pytest.mark.parametrize("count", [0, 1, 30])
def test_any_number_of_classes(count, tmp_path):
    path = save_plot(plot_curves([CURVE] * count, [f"${label}$" for label in range(count)]), tmp_path / "a" / "pr.png")
    assert Image.open(path).size[0] > 300
    save_plot(plot_confusion(confusion(count)), tmp_path / "confusion.png")


def test_confusion_shows_its_counts():
    axes = plot_confusion(confusion(2)).axes[0]
    assert sorted(int(text.get_text()) for text in axes.texts) == list(range(1, 9))  # a zero is left blank


def test_stages_and_history(tmp_path):
    save_plot(plot_stages({"backbone": 12.5, "other": 0.0}), tmp_path / "stages.png")
    save_plot(plot_stages({}), tmp_path / "none.png")
    rows = [
        {"step": 10, "train/loss/box": 0.5, "epoch": 1},
        {"step": 20, "val/AP": 0.1},
        {"step": 30, "train/loss/box": None},
    ]
    lines = plot_history(rows).axes[0].lines
    assert [(line.get_label(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in lines] == [
        ("box", [10], [0.5])
    ]
    save_plot(plot_history([]), tmp_path / "empty.png")


def test_no_global_state():
    code = "import sys, detkit.view.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
