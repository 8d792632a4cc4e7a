"""Evaluation of files: ground truth and predictions in COCO json or in one text file for each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detkit.errors import UserError
from detkit.metric.box_form import check_form
from detkit.metric.coco_json import coco_results, read_coco_objects, read_coco_results
from detkit.metric.evaluate import evaluate
from detkit.metric.form_match import refuse_other_form
from detkit.metric.records import Predictions
from detkit.metric.reference import Reference
from detkit.metric.text_boxes import read_text_detections, read_text_objects
from detkit.metric.voc_objects import find_voc, read_voc_objects

__all__ = ["coco_results", "evaluate_files", "read_ground_truth", "read_predictions"]


def evaluate_files(
    predictions: str | Path,
    ground_truth: str | Path,
    *,
    iou_thresholds: Sequence[float] = (0.1, 0.3, 0.5, 0.75),
    confusion_score: float = 0.5,
    inclusive: bool = True,
    boxes: str | None = None,
    ground_truth_boxes: str | None = None,
    images: str | Path | None = None,
) -> dict[str, Any]:
    """`evaluate` on files: see `read_ground_truth` and `read_predictions` for what they may be.

    iou_thresholds: those of metrics["voc"]["by_iou"]. inclusive: of text files; named in metrics["protocol"].
    boxes: the form of the predictions, one of FORMS; null is xywh. ground_truth_boxes: that of the ground truth; null
    is `boxes` where it is a folder of text files, else its own. images: the folder of the pictures of a text folder.
    """
    check_form(boxes, "boxes")
    check_form(ground_truth_boxes, "ground_truth_boxes")
    if ground_truth_boxes is None and is_text_folder(ground_truth):
        ground_truth_boxes = boxes
    reference = read_ground_truth(ground_truth, inclusive=inclusive, boxes=ground_truth_boxes, images=images)
    found, classes = read_predictions(predictions, reference, inclusive=inclusive, boxes=boxes)
    if boxes is None:
        offset = float(inclusive and Path(predictions).is_dir())
        refuse_other_form(found, reference.ground_truth, Path(predictions), offset)
    metrics = evaluate(
        found,
        reference.ground_truth,
        classes,
        voc_iou_thresholds=iou_thresholds,
        confusion_score=confusion_score,
    )
    metrics["protocol"] |= {"predictions": str(predictions), "ground_truth": str(ground_truth)}
    metrics["protocol"]["boxes"] = boxes or "xywh"
    metrics["protocol"]["ground_truth_boxes"] = "VOC" if is_voc(ground_truth) else ground_truth_boxes or "xywh"
    if Path(predictions).is_dir() or Path(ground_truth).is_dir():
        metrics["protocol"]["text_boxes"] = "inclusive" if inclusive else "half-open"
    return metrics


def is_voc(path: str | Path) -> bool:
    """Tell whether a path is a folder of VOC annotations, or holds one."""
    return Path(path).is_dir() and find_voc(Path(path)) is not None


def is_text_folder(path: str | Path) -> bool:
    """Tell whether a path is a folder that is read as text files."""
    return Path(path).is_dir() and not is_voc(path)


def read_ground_truth(
    path: str | Path, *, inclusive: bool = True, boxes: str | None = None, images: str | Path | None = None
) -> Reference:
    """Objects from a COCO annotation file, a VOC folder, or a folder of text files of lines `name x y w h` in pixels.

    inclusive: a text box reaches to the end of pixel x+w, y+h, as the tools that brought this form compute it;
    otherwise to x+w, y+h itself, as COCO boxes always do. boxes, images: as ground_truth_boxes and images of
    `evaluate_files`. Raises UserError naming file and line.
    """
    path = Path(path)
    if not path.is_dir():
        return read_coco_objects(path, boxes)
    voc = find_voc(path)
    if voc is not None:
        if boxes is not None:
            raise UserError(f"{path} is a VOC folder, whose boxes have one form; leave out ground_truth_boxes={boxes}")
        return read_voc_objects(voc)
    if any(path.glob("*.json")) and not any(path.glob("*.txt")):
        raise UserError(f"{path} has json files (labelme?); convert them to one COCO json or VOC xml, and give that")
    return read_text_objects(path, inclusive, boxes, None if images is None else Path(images))


def read_predictions(
    path: str | Path, reference: Reference, *, inclusive: bool = True, boxes: str | None = None
) -> tuple[Predictions, list[str]]:
    """Detections and the class names by label, from COCO results or a folder of lines `name score x y w h`.

    `inclusive` as in `read_ground_truth`; boxes: their form. Text files may name classes beyond those of text ground
    truth, which lists none without objects; any other image or class that the reference lacks raises UserError.
    """
    path = Path(path)
    if path.is_dir():
        return read_text_detections(path, reference, inclusive, boxes)
    return read_coco_results(path, reference, boxes), reference.classes
