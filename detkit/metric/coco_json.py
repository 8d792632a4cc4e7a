"""COCO json: annotation files in, results in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.errors import UserError
from detkit.metric.box_form import check_scores, to_xyxy
from detkit.metric.records import GroundTruth, Predictions
from detkit.metric.reference import Reference, by_file_name, find_file, find_indices, numbered
from detkit.text_file import read_json


def read_coco_objects(path: Path, form: str | None = None) -> Reference:
    """The objects of an annotation file {"images", "annotations", "categories"}; raises UserError naming the fault."""
    content = _read_json(path)
    if isinstance(content, dict) and "shapes" in content:
        raise UserError(f"{path} is a labelme file; convert the folder to COCO json or VOC xml, and give that")
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise UserError(f"{path} is no COCO annotation file: it must hold images, annotations and categories")
    image_ids, image_files = _by_id(content["images"], path, "file_name")
    category_ids, classes = _by_id(content["categories"], path, "name")
    image_of, category_of = numbered(image_ids), numbered(category_ids)
    objects = content["annotations"]
    image, category, xywh = _columns(objects, path, "image_id", "category_id", "bbox")
    numbers = _numbers(xywh, path, "bbox", 4)
    index = find_indices(image, image_of, "image_id", path)
    size_of = {str(row["id"]): (_side(row.get("width")), _side(row.get("height"))) for row in content["images"]}
    sizes = np.array([size_of[name] for name in image_ids], np.float64).reshape(-1, 2)
    sizes[~(sizes > 0)] = np.nan
    boxes = to_xyxy(numbers, form, path=path, places=_entries(objects), key="ground_truth_boxes", sizes=sizes[index])
    crowd = np.array([bool(row.get("iscrowd", 0)) for row in objects], np.bool_)
    of_box = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    area = [row["area"] if row.get("area") is not None else of for row, of in zip(objects, of_box, strict=True)]
    return Reference(
        ground_truth=GroundTruth(
            image=index,
            boxes=boxes,
            labels=find_indices(category, category_of, "category_id", path),
            num_images=len(image_ids),
            difficult=crowd,
            crowd=crowd,
            area=_numbers(area, path, "area"),
            image_ids=image_ids,
        ),
        classes=classes,
        file_of=by_file_name(image_files),
        sizes=sizes,
        image_of=image_of,
        category_of=category_of,
    )


def read_coco_results(path: Path, reference: Reference, form: str | None = None) -> Predictions:
    """A list of {"image_id", "category_id", "bbox" [x, y, w, h], "score"}, or a dict with it under "annotations".

    Where that dict lists images and categories too, its ids mean those, by file and class name.
    """
    content = _read_json(path)
    rows = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise UserError(f"{path} is no COCO results file: it must be a list, or a dict with a list 'annotations'")
    image_of, category_of = reference.image_of, reference.category_of
    if isinstance(content, dict) and {"images", "categories"} <= content.keys():
        image_of = _by_name(content["images"], path, "file_name", reference.file_of)
        category_of = _by_name(content["categories"], path, "name", numbered(reference.classes))
    image, category, xywh, scores = _columns(rows, path, "image_id", "category_id", "bbox", "score")
    index = find_indices(image, image_of, "image_id", path)
    numbers, places = _numbers(xywh, path, "bbox", 4), _entries(rows)
    checked = _numbers(scores, path, "score")
    check_scores(checked, path, places)
    return Predictions(
        image=index,
        boxes=to_xyxy(numbers, form, path=path, places=places, key="boxes", sizes=reference.sizes_of(index)),
        scores=checked,
        labels=find_indices(category, category_of, "category_id", path),
    )


def coco_results(
    predictions: Predictions, image_ids: Sequence[str], category_ids: Sequence[int | str] | None = None
) -> list[dict[str, Any]]:
    """The detections as COCO results, for json.dump; scores and boxes keep every digit.

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


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give a .json file or a folder of .txt files") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _columns(rows: Sequence[Mapping[str, Any]], path: Path, *keys: str) -> list[list[Any]]:
    """The values of each key, which every row must have."""
    if not isinstance(rows, list):
        raise UserError(f"{path}: the place of {', '.join(keys)} must be a list, is {type(rows).__name__}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"{path}: entry {number} is {str(row)[:100]}, must be a dict with {', '.join(keys)}")
        missing = [key for key in keys if key not in row]
        if missing:
            raise UserError(f"{path}: entry {number}, {str(row)[:100]}, has no {', '.join(missing)}")
    return [[row[key] for row in rows] for key in keys]


def _by_id(rows: Sequence[Mapping[str, Any]], path: Path, name: str) -> tuple[list[str], list[str]]:
    """The ids and the names of images or categories by ascending id, as pycocotools breaks ties."""
    ids, names = _columns(rows, path, "id", name)
    same_kind = all(isinstance(row_id, (int, float)) for row_id in ids)
    order = sorted(range(len(ids)), key=lambda k: ids[k] if same_kind else str(ids[k]))
    return [str(ids[k]) for k in order], [str(names[k]) for k in order]


def _by_name(rows: Sequence[Mapping[str, Any]], path: Path, key: str, index_of: Mapping[str, int]) -> Mapping[str, int]:
    """The index of each id of `rows` in the ground truth, found by file or class name."""
    ids, names = _by_id(rows, path, key)
    if key == "file_name":
        names = [find_file(name, index_of) for name in names]
    return {row_id: index_of[name] for row_id, name in zip(ids, names, strict=True) if name in index_of}


def _numbers(values: Sequence[Any], path: Path, key: str, width: int | None = None) -> NDArray[np.float64]:
    """float64 [N], or [N, width], all finite."""
    for number, value in enumerate(values):
        row = value if isinstance(value, (list, tuple)) else [value]
        good = all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in row)
        if not good or len(row) != (width or 1) or isinstance(value, (list, tuple)) != (width is not None):
            must = f"{width} numbers" if width else "a number"
            raise UserError(f"{path}: {key} of entry {number} is {str(value)[:100]}, must be {must}")
    try:
        numbers = np.array(values, np.float64).reshape((len(values),) if width is None else (len(values), width))
    except OverflowError as error:
        raise UserError(f"{path}: a {key} is too large a number") from error
    bad = np.flatnonzero(~np.isfinite(numbers).reshape(len(values), width or 1).all(axis=1))
    if len(bad):
        raise UserError(f"{path}: {key} of entry {bad[0]} is {values[bad[0]]}, must be finite")
    return numbers


def _entries(rows: Sequence[Any]) -> list[str]:
    return [f"entry {number}" for number in range(len(rows))]


def _side(value: Any) -> float:
    """A width or height, NaN where the file says none."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9
    return float(value) if known else float("nan")
