"""Read COCO's annotation and results files, and write results.

The entries are parsed by `detkit.data.formats.coco.coco_entries`, as for a training. Faults that a training reader
repairs with a warning would change what is measured here, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from detkit.box_files.box_form import Form, WrittenBoxes, from_xywh, refuse_scores, to_xyxy
from detkit.box_files.reference import ImageNames, Reference, find_indices, numbered, picture_sizes, with_other_classes
from detkit.core.errors import UserError
from detkit.core.plain import Json
from detkit.core.text_file import read_json
from detkit.data.formats.coco.coco_entries import parse_coco, parse_results
from detkit.data.formats.coco.coco_file import CocoFile, CocoObject
from detkit.data.formats.coco.coco_value import ascending, number_of, shorten
from detkit.metric.records import GroundTruth, Predictions

PIXELS = Form()
# Faults by which no object and no image is another than it is written: those that are said, and those that are usual.
SAID = ("duplicate image", "repeated id")
HARMLESS = ("missing size", *SAID)


class CocoResult(TypedDict):
    """A detection in COCO's results format; bbox: left, top, width, height in pixels."""

    image_id: int | str
    category_id: int
    bbox: list[float]
    score: float


def read_coco_objects(path: Path, form: Form = PIXELS, images: Path | None = None) -> Reference:
    """Read an annotation file {"images", "annotations", "categories"}; raises UserError naming the fault.

    images: a folder of the pictures, for the size of those that the file gives none of.
    """
    content = _read_json(path)
    if isinstance(content, dict) and "shapes" in content:
        raise UserError(
            f"{path} is a labelme file of one image; convert them to one COCO file (labelme2coco), or to VOC"
        )
    file = parse_coco(content, path)
    _refuse_faults(file)
    rows = sorted(file.images, key=lambda image: ascending(image.id))  # as pycocotools breaks ties
    image_of = numbered([image.id for image in rows])
    category_of = numbered([category.id for category in file.categories])
    image_index = find_indices([item.image_id for item in file.objects], image_of, "image_id", path)
    labels = find_indices([item.category_id for item in file.objects], category_of, "category_id", path)
    names = ImageNames([image.file_name for image in rows])
    sizes = np.array([image.size[::-1] for image in rows], np.float64).reshape(-1, 2)
    sizes[sizes == 0] = np.nan
    if images is not None and np.isnan(sizes).any():
        found = picture_sizes(names, images)
        sizes = np.where(np.isnan(sizes).any(axis=1, keepdims=True), found, sizes)
    written = _written(file, sizes[image_index], form)
    boxes = to_xyxy(written, form)
    declared = np.array([np.nan if item.area is None else item.area for item in file.objects], np.float64)
    _refuse_corners_by_area(written, declared, form)
    crowd = np.array([item.crowd for item in file.objects], np.bool_)
    return Reference(
        ground_truth=GroundTruth(
            image=image_index,
            boxes=boxes,
            labels=labels,
            num_images=len(rows),
            difficult=crowd,
            crowd=crowd,
            area=np.where(np.isnan(declared), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), declared),
            image_ids=[image.id for image in rows],
        ),
        classes=[category.name for category in file.categories],
        names=names,
        image_of=image_of,
        category_of=category_of,
        sizes=sizes,
        notes=[f"{path}: {fault.message}" for fault in file.faults if fault.kind in SAID],
    )


def read_coco_results(
    path: Path, reference: Reference, form: Form = PIXELS
) -> tuple[Predictions, list[str], WrittenBoxes]:
    """Read a list of {"image_id", "category_id", "bbox", "score"}, or a dict with it under "annotations".

    If that dict lists images and categories too, its ids mean those, by file and class name. Returns also the class
    names by label: those of the reference, and then what else the dict has detections of.
    """
    content = _read_json(path)
    rows = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise UserError(f"{path} is no COCO results file: it must be a list, or a dict with a list 'annotations'")
    image_of, category_of, classes = reference.image_of, reference.category_of, list(reference.classes)
    if isinstance(content, dict) and {"images", "categories"} <= content.keys():
        file = parse_coco(content, path)
        _refuse_faults(file)
        image_of = _images_by_name(file, reference)
        used = {item.category_id for item in file.objects}
        names = {category.id: category.name for category in file.categories}
        classes = with_other_classes(classes, {names[one] for one in used if one in names}, path)
        label_of = numbered(classes)
        category_of = {one: label_of[name] for one, name in names.items() if name in label_of}
    else:
        if rows and not category_of:
            raise UserError(
                f"{path} names classes by number, and the ground truth has none: give text files, or a dict with "
                "images, categories and annotations"
            )
        file = parse_results(rows, path)
        _refuse_faults(file)
    image_index = find_indices([item.image_id for item in file.objects], image_of, "image_id", path)
    labels = find_indices([item.category_id for item in file.objects], category_of, "category_id", path)
    scores = np.array([_score(rows[item.entry], item, path) for item in file.objects], np.float64)
    refuse_scores(scores, lambda index: f"{path}: entry {index}")
    written = _written(file, reference.sizes[image_index], form)
    boxes = to_xyxy(written, form)
    return Predictions(image=image_index, boxes=boxes, scores=scores, labels=labels), classes, written


def coco_results(
    predictions: Predictions, image_ids: Sequence[str], category_ids: Sequence[int] | None = None
) -> list[CocoResult]:
    """Convert detections to COCO results, for json.dump; scores and boxes keep every digit.

    image_ids: of each image; one that is a number as COCO writes it becomes that number. category_ids: of each
    label, by default 1, 2, 3, ...
    """
    boxes = np.concatenate([predictions.boxes[:, :2], predictions.boxes[:, 2:] - predictions.boxes[:, :2]], axis=1)
    ids = [int(name) if name.isdecimal() and str(int(name)) == name else name for name in image_ids]
    columns = zip(
        predictions.image.tolist(),
        predictions.labels.tolist(),
        boxes.tolist(),
        predictions.scores.tolist(),
        strict=True,
    )
    return [
        {
            "image_id": ids[image],
            "category_id": label + 1 if category_ids is None else category_ids[label],
            "bbox": box,
            "score": score,
        }
        for image, label, box, score in columns
    ]


def _read_json(path: Path) -> Json:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give a .json file or a folder of .txt files") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _refuse_faults(file: CocoFile) -> None:
    """Raise UserError naming the first fault that would change what is measured."""
    faults = [fault for fault in file.faults if fault.kind not in HARMLESS]
    if faults:
        told = faults[0].message.partition("; ")[0]  # behind that stands what a reader makes of it
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UserError(f"{file.path}: {told}{more}")


def _written(file: CocoFile, sizes: NDArray[np.float64], form: Form) -> WrittenBoxes:
    """Collect the numbers of the boxes; those around a segmentation in the form of the others."""
    numbers = np.array([item.bbox for item in file.objects], np.float64).reshape(-1, 4)
    outlined = np.array([item.outlined for item in file.objects], np.bool_)
    numbers[outlined] = from_xywh(numbers[outlined], form, sizes[outlined])
    return WrittenBoxes(
        numbers=numbers, sizes=sizes, name=lambda index: f"{file.path}: entry {file.objects[index].entry}"
    )


def _images_by_name(file: CocoFile, reference: Reference) -> dict[str, int]:
    index_of: dict[str, int] = {}
    taken: dict[int, str] = {}
    for image in file.images:
        index = reference.names.find(image.file_name, file.path, "file_name")
        if index in taken:
            raise UserError(f"{file.path}: {taken[index]} and {image.file_name} are one image of the ground truth")
        taken[index] = image.file_name
        index_of[image.id] = index
    return index_of


def _score(row: Mapping[str, object], item: CocoObject, path: Path) -> float:
    if "score" not in row:
        raise UserError(f"{path}: entry {item.entry}, {str(row)[:100]}, has no score")
    score = number_of(row["score"])
    if score is None or not np.isfinite(score):
        wanted = "a number" if score is None else "finite"
        raise UserError(f"{path}: score of entry {item.entry} is {shorten(row['score'])}, must be {wanted}")
    return score


def _refuse_corners_by_area(written: WrittenBoxes, area: NDArray[np.float64], form: Form) -> None:
    """Raise UserError if every known area is that of corners, and not of x, y, width, height; NaN is unknown."""
    x, y, third, fourth = written.numbers.T
    clear = (x > 0) & (y > 0) & (area > 0)
    corners = np.isclose((third - x) * (fourth - y), area, rtol=0.01) & (third > x)
    if not form.given and clear.any() and corners[clear].all():
        index = int(np.flatnonzero(clear)[0])
        raise UserError(f"{written.told(index)} and area {area[index]:g}, that of corners: add boxes=xyxy")
