"""Evaluate files: ground truth and predictions in COCO json, in text files of an image each, or in VOC's XML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from detkit.box_files.box_form import Form, WrittenBoxes
from detkit.box_files.coco_json import coco_results, read_coco_objects, read_coco_results
from detkit.box_files.form_match import better_form
from detkit.box_files.reference import Reference
from detkit.box_files.text_boxes import read_text_detections, read_text_objects
from detkit.box_files.voc_objects import find_voc_files, read_voc_objects
from detkit.core.errors import UserError
from detkit.core.suggest import did_you_mean
from detkit.metric.evaluate import evaluate
from detkit.metric.metrics_json import COCOMetrics, ComparedCounts, ConfusionCounts, VOCMetrics
from detkit.metric.records import Predictions

NOTES = 5  # that are told of a file
__all__ = ["coco_results", "evaluate_files", "read_ground_truth", "read_predictions"]


class ComparedFiles(ComparedCounts):
    """What was compared, and how it was read; boxes: the form of both, notes: what whoever reads numbers must know."""

    predictions: str
    ground_truth: str
    boxes: str
    notes: list[str]


class ComparedTexts(ComparedFiles):
    """What was compared where one of both is text files; text_boxes: "inclusive" or "half-open"."""

    text_boxes: str


class FileMetrics(TypedDict):
    """What `evaluate_files` measures: `Metrics` of files."""

    protocol: ComparedFiles
    voc: VOCMetrics
    coco: COCOMetrics
    confusion: ConfusionCounts


def evaluate_files(
    predictions: str | Path,
    ground_truth: str | Path,
    *,
    boxes: str | None = None,
    images: str | Path | None = None,
    iou_thresholds: Sequence[float] = (0.1, 0.3, 0.5, 0.75),
    confusion_score: float = 0.5,
    inclusive: bool = True,
) -> FileMetrics:
    """Run `evaluate` on files: see `read_ground_truth` and `read_predictions` for what they may be.

    iou_thresholds: those of metrics["voc"]["by_iou"]. metrics["protocol"] names boxes and inclusive; its "notes" say
    what a reader of the numbers must know: that there are no detections or objects, that another form fits better.
    """
    reference = read_ground_truth(ground_truth, boxes=boxes, images=images, inclusive=inclusive)
    found, classes, written = _read_predictions(Path(predictions), reference, boxes, inclusive)
    better = better_form(written, _form(Path(predictions), boxes, inclusive), found, reference.ground_truth)
    if better is not None and boxes is None:
        raise UserError(f"{predictions}: {better}: write both files in one form and add boxes=<that form>")
    metrics = evaluate(
        found,
        reference.ground_truth,
        classes,
        voc_iou_thresholds=iou_thresholds,
        confusion_score=confusion_score,
    )
    notes = [
        *([f"{predictions}: {better}; is {ground_truth} in another form?"] if better else []),
        *reference.notes[:NOTES],
        *([f"and {len(reference.notes) - NOTES} more of such"] if len(reference.notes) > NOTES else []),
        *_other_classes(found, classes, reference, Path(predictions)),
        *([] if len(found) else [f"{predictions} has no detections: nothing was found, so no AP is above 0"]),
        *([] if (~reference.ground_truth.difficult).any() else [f"{ground_truth} has no objects that count: no AP"]),
    ]
    protocol: ComparedFiles = {
        **metrics["protocol"],
        "predictions": str(predictions),
        "ground_truth": str(ground_truth),
        "boxes": boxes or "xywh",
        "notes": notes,
    }
    if Path(predictions).is_dir() or Path(ground_truth).is_dir():
        of_texts: ComparedTexts = {**protocol, "text_boxes": "inclusive" if inclusive else "half-open"}
        protocol = of_texts
    return {
        "protocol": protocol,
        "voc": metrics["voc"],
        "coco": metrics["coco"],
        "confusion": metrics["confusion"],
    }


def read_ground_truth(
    path: str | Path, *, boxes: str | None = None, images: str | Path | None = None, inclusive: bool = True
) -> Reference:
    """Read objects from a COCO annotation file, from text files of lines `name x y w h`, or from VOC's XML files.

    boxes: what four numbers mean, one of box_form.FORMS; None: x, y, w, h in pixels, unless they show that they are
    not. VOC's boxes say themselves what they are. images: the folder of the pictures, where their sizes are not known.
    inclusive: a text box reaches to the end of pixel x+w, y+h, as the tools that brought this form compute it;
    otherwise to x+w, y+h itself, as COCO boxes always do. Raises UserError naming file and line.
    """
    path = Path(path)
    form = _form(path, boxes, inclusive)
    pictures = None if images is None else Path(images)
    if pictures is not None and not pictures.is_dir():
        raise UserError(f"images={images} is no folder")
    if not path.is_dir():
        return read_coco_objects(path, form, pictures)
    if find_voc_files(path):
        return read_voc_objects(path, pictures)
    return read_text_objects(path, form, pictures)


def read_predictions(
    path: str | Path, reference: Reference, *, boxes: str | None = None, inclusive: bool = True
) -> tuple[Predictions, list[str]]:
    """Read detections and the class names by label, from COCO results or text files of lines `name score x y w h`.

    `boxes`, `inclusive` as in `read_ground_truth`; with boxes=yolo, lines are `class cx cy w h score`. Classes that are
    named and that the reference does not have come behind its own, and count for nothing; where all are such, and for
    an image or a class number that it does not have, UserError is raised.
    """
    return _read_predictions(Path(path), reference, boxes, inclusive)[:2]


def _read_predictions(
    path: Path, reference: Reference, boxes: str | None, inclusive: bool
) -> tuple[Predictions, list[str], WrittenBoxes]:
    form = _form(path, boxes, inclusive)
    if path.is_dir():
        if find_voc_files(path):
            raise UserError(
                f"{path} has VOC's XML files, which have no scores: predictions are COCO json or text files"
            )
        return read_text_detections(path, reference, form)
    return read_coco_results(path, reference, form)


def _other_classes(found: Predictions, classes: Sequence[str], reference: Reference, path: Path) -> list[str]:
    """Describe detections of classes that the ground truth does not have, in a sentence."""
    counts = Counter(classes[label] for label in found.labels.tolist() if label >= len(reference.classes))
    if not counts:
        return []
    few = [f"{name!r}: {count}{did_you_mean(name, reference.classes)}" for name, count in counts.most_common(5)]
    more = f", and {len(counts) - 5} more classes" if len(counts) > 5 else ""
    return [
        f"{path}: {counts.total()} of {len(found)} detections are of classes that the ground truth does not have "
        f"({', '.join(few)}{more}): they count for nothing"
    ]


def _form(path: Path, boxes: str | None, inclusive: bool) -> Form:
    return Form.of(boxes, inclusive and path.is_dir())
