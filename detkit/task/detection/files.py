"""Write the detections of a split as COCO results, and the plots of its metrics."""

from __future__ import annotations

import json
from pathlib import Path

from detkit.box_files.files import coco_results
from detkit.core.plain import Metrics
from detkit.data.annotations import Annotations
from detkit.data.category_ids import fill_category_ids
from detkit.metric.average_precision import curves
from detkit.metric.match import group, voc_argmax
from detkit.metric.records import Predictions
from detkit.task.detection.truth import ground_truth_of
from detkit.view.plots import plot_confusion, plot_curves, save_plot


def write_predictions(folder: Path, predictions: Predictions, annotations: Annotations) -> None:
    """Write predictions.json, COCO results, into `folder`.

    Category ids are those of the COCO file that the annotations came from, elsewhere label + 1, so 1 is the first
    class. Image ids that are whole numbers become numbers. Boxes are [x, y, width, height] in pixels.
    """
    ids = fill_category_ids(annotations, None).category_ids
    rows = coco_results(predictions, list(annotations.image_ids), ids)  # type: ignore[arg-type]  # none is None
    (folder / "predictions.json").write_text(json.dumps(rows) + "\n", encoding="utf-8")


def write_plots(folder: Path, metrics: Metrics, predictions: Predictions, annotations: Annotations) -> None:
    """Draw plots/precision_recall.png and confusion.png into `folder`."""
    grouped = group(predictions, ground_truth_of(annotations), len(annotations.classes))
    of_each_class = curves(grouped, voc_argmax(grouped, [0.5]), 0)
    figures = {
        "precision_recall": plot_curves(of_each_class, annotations.classes),
        "confusion": plot_confusion(metrics["confusion"]),
    }
    for name, figure in figures.items():
        save_plot(figure, folder / "plots" / f"{name}.png")
