"""The HTML report: self-contained, complete, and content with whatever a run folder holds."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from detkit.core.errors import UserError
from detkit.evaluate.run_report import read_history, write_report
from detkit.metric.evaluate import evaluate
from detkit.metric.records import GroundTruth, Predictions
from detkit.task.detection.task import DetectionTask
from detkit.view.chart import line_chart, meter, nice_ceiling, stacked_bar, thinned

TASK = DetectionTask()


@pytest.fixture
def run_dir(tmp_path):
    """A run folder as training and evaluation leave it, with a class name that HTML must not run."""
    boxes = np.array([[0.0, 0, 10, 10], [20, 20, 40, 40]])
    truth = GroundTruth(image=np.array([0, 1]), boxes=boxes, labels=np.array([0, 1]), num_images=2)
    found = Predictions(image=np.array([0]), boxes=boxes[:1], scores=np.array([0.9]), labels=np.array([0]))
    metrics = evaluate(found, truth, ["cat", "<script>dog"])
    metrics["timing"] = {"total_ms": {"mean": 41.0, "p50": 40.5, "p95": 50.0}, "device": "cpu"}
    metrics["timing"]["stages_ms"] = {"backbone": 20.0, "roi_head": 15.5, "other": -0.1}
    recall = {"recall_50": 0.877, "recall_70": None, "average_recall": 0.5}
    metrics["proposals"] = {"proposals_per_image": 150.0, "300": recall}
    (tmp_path / "plots").mkdir()
    for name in ("precision_recall", "confusion"):
        Image.new("RGB", (4, 4)).save(tmp_path / "plots" / f"{name}.png")
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    rows = [{"step": step, "phase": "train", "train/loss/total": 3 / step} for step in range(1, 900)]
    rows.append({"step": 900, "phase": "val", "val/mAP_area": 0.5, "val/AP": 0.3})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 9')
    (tmp_path / "config.yaml").write_text("seed: 12345\n")
    (tmp_path / "environment.json").write_text(json.dumps({"device": "A <fast> CPU"}))
    return tmp_path


def test_everything_is_told_in_one_small_file(run_dir):
    path = write_report(run_dir, TASK, [Image.new("RGB", (1000, 600))])
    page = path.read_text()
    assert path == run_dir / "report.html"
    for word in (
        "50.0",
        "40.5",
        "87.7",
        "precision_recall",
        "cat",
        "backbone",
        "Training loss",
        "Validation, %",
        "spurious",
        "seed: 12345",
        "fast",
    ):
        assert word in page
    assert 'alt="confusion"' not in page  # it is a table
    assert len(page) < 100_000


def test_nothing_is_loaded_from_outside_and_nothing_is_run(run_dir):
    page = write_report(run_dir, TASK, [Image.new("RGB", (10, 10))]).read_text()
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "url(" not in page
    assert "<script" not in page


def test_missing_files_are_left_out(run_dir):
    for name in ("metrics.jsonl", "config.yaml", "environment.json"):
        (run_dir / name).unlink()
    page = write_report(run_dir, TASK).read_text()
    assert "Training loss" not in page
    assert "Examples" not in page
    (run_dir / "metrics.json").unlink()
    with pytest.raises(UserError, match=re.escape(str(run_dir))):
        write_report(run_dir, TASK)


def test_a_run_without_any_detection_or_object_is_told(tmp_path):
    nothing = np.zeros(0)
    truth = GroundTruth(image=nothing, boxes=nothing, labels=nothing, num_images=0)
    found = Predictions(image=nothing, boxes=nothing, scores=nothing, labels=nothing)
    (tmp_path / "metrics.json").write_text(json.dumps(evaluate(found, truth, ["cat"])))
    assert "cat" in write_report(tmp_path, TASK).read_text()


def test_a_cut_off_line_of_the_history_is_left_out(run_dir):
    assert len(read_history(run_dir / "metrics.jsonl")) == 900
    assert read_history(run_dir / "none.jsonl") == []


def test_thinning_keeps_ends_in_range_and_means():
    points = [(float(i), float(i)) for i in range(1000)]
    short = thinned(points, most=100)
    assert len(short) == 100
    assert np.mean(short) == pytest.approx(np.mean(points))
    assert thinned(points[:5]) == points[:5]
    assert thinned([]) == []


@pytest.mark.parametrize(("value", "ceiling"), [(0, 1), (0.03, 0.05), (1, 1), (1.1, 2), (2.2, 2.5), (7, 10), (23, 25)])
def test_axes_end_on_round_numbers(value, ceiling):
    assert nice_ceiling(value) == pytest.approx(ceiling)


def test_charts_of_nothing_are_nothing():
    assert line_chart({"loss": []}, "steps", "Loss") == ""
    assert stacked_bar({"other": -1.0}, "ms") == ""
    assert "%" not in meter(None)
