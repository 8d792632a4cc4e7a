"""Evaluation of files: ground truth and predictions in COCO json or in one text file for each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detkit.metric.coco_json import coco_results, read_coco_objects, read_coco_results
from detkit.metric.evaluate import evaluate
from detkit.metric.records import Predictions
from detkit.metric.reference import Reference
from detkit.metric.text_boxes import read_text_detections, read_text_objects

__all__ = ["coco_results", "evaluate_files", "read_ground_truth", "read_predictions"]


def evaluate_files(
    predictions: str | Path,
    ground_truth: str | Path,
    *,
    iou_thresholds: Sequence[float] = (0.1, 0.3, 0.5, 0.75),
    confusion_score: float = 0.5,
    inclusive: bool = True,
) -> dict[str, Any]:
    """`evaluate` on files: see `read_ground_truth` and `read_predictions` for what they may be.

    iou_thresholds: those of metrics["voc"]["by_iou"]. inclusive: of text files; named in metrics["protocol"].
    """
    reference = read_ground_truth(ground_truth, inclusive=inclusive)
    found, classes = read_predictions(predictions, reference, inclusive=inclusive)
    metrics = evaluate(
        found,
        reference.ground_truth,
        classes,
        voc_iou_thresholds=iou_thresholds,
        confusion_score=confusion_score,
    )
    metrics["protocol"] |= {"predictions": str(predictions), "ground_truth": str(ground_truth)}
    if Path(predictions).is_dir() or Path(ground_truth).is_dir():
        metrics["protocol"]["text_boxes"] = "inclusive" if inclusive else "half-open"
    return metrics


def read_ground_truth(path: str | Path, *, inclusive: bool = True) -> Reference:
    """Objects from a COCO annotation file, or from a folder of text files of lines `name x y w h` in pixels.

    inclusive: a text box reaches to the end of pixel x+w, y+h, as the tools that brought this form compute it;
    otherwise to x+w, y+h itself, as COCO boxes always do. Raises UserError naming file and line.
    """
    path = Path(path)
    return read_text_objects(path, inclusive) if path.is_dir() else read_coco_objects(path)


def read_predictions(
    path: str | Path, reference: Reference, *, inclusive: bool = True
) -> tuple[Predictions, list[str]]:
    """Detections and the class names by label, from COCO results or a folder of lines `name score x y w h`.

    `inclusive` as in `read_ground_truth`. Text files may name classes beyond those of text ground truth, which lists
    none without objects; any other image or class that the reference does not have raises UserError.
    """
    path = Path(path)
    if path.is_dir():
        return read_text_detections(path, reference, inclusive)
    return read_coco_results(path, reference), reference.classes
