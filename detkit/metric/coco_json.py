"""COCO json: annotation files in, results in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.errors import UserError
from detkit.metric.records import GroundTruth, Predictions
from detkit.metric.reference import Reference, find_indices, from_xywh, numbered


def read_coco_objects(path: Path) -> Reference:
    """The objects of an annotation file {"images", "annotations", "categories"}; raises UserError naming the fault."""
    content = _read_json(path)
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise UserError(f"{path} is no COCO annotation file: it must hold images, annotations and categories")
    image_ids, image_files = _by_id(content["images"], path, "file_name")
    category_ids, classes = _by_id(content["categories"], path, "name")
    image_of, category_of = numbered(image_ids), numbered(category_ids)
    objects = content["annotations"]
    image, category, xywh = _columns(objects, path, "image_id", "category_id", "bbox")
    boxes = from_xywh(_numbers(xywh, path, "bbox", 4))
    crowd = np.array([bool(row.get("iscrowd", 0)) for row in objects], np.bool_)
    area = [row.get("area", box[2] * box[3]) for row, box in zip(objects, xywh, strict=True)]
    return Reference(
        ground_truth=GroundTruth(
            image=find_indices(image, image_of, "image_id", path),
            boxes=boxes,
            labels=find_indices(category, category_of, "category_id", path),
            num_images=len(image_ids),
            difficult=crowd,
            crowd=crowd,
            area=_numbers(area, path, "area"),
            image_ids=image_ids,
        ),
        classes=classes,
        file_of=numbered([Path(name).stem for name in image_files]),
        image_of=image_of,
        category_of=category_of,
    )


def read_coco_results(path: Path, reference: Reference) -> Predictions:
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
    return Predictions(
        image=find_indices(image, image_of, "image_id", path),
        boxes=from_xywh(_numbers(xywh, path, "bbox", 4)),
        scores=_numbers(scores, path, "score"),
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
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give a .json file or a folder of .txt files") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as json: {error}") from error


def _columns(rows: Sequence[Mapping[str, Any]], path: Path, *keys: str) -> list[list[Any]]:
    """The values of each key, which every row must have."""
    for number, row in enumerate(rows):
        missing = [key for key in keys if key not in row]
        if missing:
            raise UserError(f"{path}: entry {number}, {str(row)[:100]}, has no {', '.join(missing)}")
    return [[row[key] for row in rows] for key in keys]


def _by_id(rows: Sequence[Mapping[str, Any]], path: Path, name: str) -> tuple[list[str], list[str]]:
    """The ids and the names of images or categories by ascending id, as pycocotools breaks ties."""
    ids, names = _columns(rows, path, "id", name)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return [str(ids[k]) for k in order], [str(names[k]) for k in order]


def _by_name(rows: Sequence[Mapping[str, Any]], path: Path, key: str, index_of: Mapping[str, int]) -> Mapping[str, int]:
    """The index of each id of `rows` in the ground truth, found by file or class name."""
    ids, names = _by_id(rows, path, key)
    names = [Path(name).stem for name in names] if key == "file_name" else names
    return {row_id: index_of[name] for row_id, name in zip(ids, names, strict=True) if name in index_of}


def _numbers(values: Sequence[Any], path: Path, key: str, width: int | None = None) -> NDArray[np.float64]:
    """float64 [N], or [N, width], all finite."""
    shape = (len(values),) if width is None else (len(values), width)
    try:
        numbers = np.array(values, np.float64).reshape(shape)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: every {key} must be {width or 'a'} number{'s' if width else ''}: {error}") from error
    bad = np.flatnonzero(~np.isfinite(numbers).reshape(len(values), width or 1).all(axis=1))
    if len(bad):
        raise UserError(f"{path}: {key} of entry {bad[0]} is {values[bad[0]]}, must be finite")
    return numbers
