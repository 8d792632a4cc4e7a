"""COCO json: annotation files in, results in and out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.errors import UserError
from detkit.metric.box_form import Form, WrittenBoxes, refuse_scores, to_xyxy
from detkit.metric.records import GroundTruth, Predictions
from detkit.metric.reference import ImageNames, Reference, find_indices, id_text, numbered, picture_sizes
from detkit.text_file import read_json

PIXELS = Form()


def read_coco_objects(path: Path, form: Form = PIXELS, images: Path | None = None) -> Reference:
    """The objects of an annotation file {"images", "annotations", "categories"}; raises UserError naming the fault.

    images: a folder of the pictures, for the size of those that the file gives none of.
    """
    content = _read_json(path)
    if isinstance(content, dict) and "shapes" in content:
        raise UserError(
            f"{path} is a labelme file of one image; convert them to one COCO file (labelme2coco), or to VOC"
        )
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise UserError(f"{path} is no COCO annotation file: it must hold images, annotations and categories")
    image_ids, image_files, image_rows = _by_id(content["images"], path, "images", "file_name")
    category_ids, classes, _ = _by_id(content["categories"], path, "categories", "name")
    if len(set(classes)) < len(classes):
        twice = Counter(classes).most_common(1)[0][0]
        raise UserError(f"{path}: two categories are called {twice!r}")
    image_of, category_of = numbered(image_ids), numbered(category_ids)
    objects = content["annotations"]
    image, category, bbox = _columns(objects, path, "image_id", "category_id", "bbox")
    numbers = _numbers(bbox, path, "bbox", 4)
    image_index = find_indices(_ids(image, path, "image_id"), image_of, "image_id", path)
    names = ImageNames(image_files)
    sizes = _sizes(image_rows)
    if images is not None and np.isnan(sizes).any():
        found = picture_sizes(names, images)
        sizes = np.where(np.isnan(sizes).any(axis=1, keepdims=True), found, sizes)
    written = WrittenBoxes(numbers=numbers, sizes=sizes[image_index], name=lambda index: f"{path}: entry {index}")
    boxes = to_xyxy(written, form)
    area = _areas(objects, boxes, path)
    _refuse_corners_by_area(written, area, form)
    crowd = np.array([_flag(row, number, path) for number, row in enumerate(objects)], np.bool_)
    return Reference(
        ground_truth=GroundTruth(
            image=image_index,
            boxes=boxes,
            labels=find_indices(_ids(category, path, "category_id"), category_of, "category_id", path),
            num_images=len(image_ids),
            difficult=crowd,
            crowd=crowd,
            area=area,
            image_ids=image_ids,
        ),
        classes=classes,
        names=names,
        image_of=image_of,
        category_of=category_of,
        sizes=sizes,
    )


def read_coco_results(path: Path, reference: Reference, form: Form = PIXELS) -> tuple[Predictions, WrittenBoxes]:
    """A list of {"image_id", "category_id", "bbox", "score"}, or a dict with it under "annotations".

    Where that dict lists images and categories too, its ids mean those, by file and class name.
    """
    content = _read_json(path)
    rows = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise UserError(f"{path} is no COCO results file: it must be a list, or a dict with a list 'annotations'")
    image_of, category_of = reference.image_of, reference.category_of
    if isinstance(content, dict) and {"images", "categories"} <= content.keys():
        image_of = _images_by_name(content["images"], path, reference)
        category_of = _classes_by_name(content["categories"], path, reference)
    elif rows and not category_of:
        raise UserError(
            f"{path} names classes by number, and the ground truth has none: give text files, or a dict with images, "
            "categories and annotations"
        )
    image, category, bbox, score = _columns(rows, path, "image_id", "category_id", "bbox", "score")
    image_index = find_indices(_ids(image, path, "image_id"), image_of, "image_id", path)
    labels = find_indices(_ids(category, path, "category_id"), category_of, "category_id", path)
    scores = _numbers(score, path, "score")
    refuse_scores(scores, lambda index: f"{path}: entry {index}")
    written = WrittenBoxes(
        numbers=_numbers(bbox, path, "bbox", 4),
        sizes=reference.sizes[image_index],
        name=lambda index: f"{path}: entry {index}",
    )
    return Predictions(image=image_index, boxes=to_xyxy(written, form), scores=scores, labels=labels), written


def coco_results(
    predictions: Predictions, image_ids: Sequence[str], category_ids: Sequence[int] | None = None
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
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _columns(rows: Any, path: Path, *keys: str) -> list[list[Any]]:
    """The values of each key, which every row must have."""
    if not isinstance(rows, list):
        raise UserError(f"{path}: there must be a list of entries with {', '.join(keys)}, not {str(rows)[:60]}")
    for number, row in enumerate(rows):
        missing = [key for key in keys if key not in row] if isinstance(row, dict) else keys
        if missing:
            raise UserError(f"{path}: entry {number}, {str(row)[:100]}, has no {', '.join(missing)}")
    return [[row[key] for row in rows] for key in keys]


def _ids(values: Sequence[Any], path: Path, key: str) -> list[str]:
    ids = []
    for number, value in enumerate(values):
        text = id_text(value)
        if text is None:
            raise UserError(f"{path}: {key} of entry {number} is {str(value)[:60]}, must be a number or a text")
        ids.append(text)
    return ids


def _by_id(rows: Any, path: Path, kind: str, name: str) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """The ids, the names and the rows of images or categories by ascending id, as pycocotools breaks ties."""
    try:
        raw, names = _columns(rows, path, "id", name)
    except UserError as error:
        raise UserError(f"{error} (of {kind})") from error
    ids = _ids(raw, path, f"id of {kind},")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise UserError(f"{path}: id {twice} is given to two of {kind}")
    texts = _ids(names, path, f"{name} of {kind},")
    try:
        order = sorted(range(len(ids)), key=raw.__getitem__)
    except TypeError:  # numbers and texts together
        order = sorted(range(len(ids)), key=ids.__getitem__)
    return [ids[k] for k in order], [texts[k] for k in order], [rows[k] for k in order]


def _images_by_name(rows: Any, path: Path, reference: Reference) -> Mapping[str, int]:
    ids, names, _ = _by_id(rows, path, "images", "file_name")
    index_of: dict[str, int] = {}
    taken: dict[int, str] = {}
    for row_id, name in zip(ids, names, strict=True):
        index = reference.names.find(name, path, "file_name")
        if index in taken:
            raise UserError(f"{path}: {taken[index]} and {name} are one image of the ground truth")
        taken[index] = name
        index_of[row_id] = index
    return index_of


def _classes_by_name(rows: Any, path: Path, reference: Reference) -> Mapping[str, int]:
    """The label of each category id; those of classes that the ground truth does not have are left out."""
    ids, names, _ = _by_id(rows, path, "categories", "name")
    label_of = numbered(reference.classes)
    return {row_id: label_of[name] for row_id, name in zip(ids, names, strict=True) if name in label_of}


def _sizes(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """float64 [I, 2] width and height; NaN where an image gives none that can be."""
    sizes = np.full((len(rows), 2), np.nan)
    for index, row in enumerate(rows):
        pair = [row.get("width"), row.get("height")]
        if all(isinstance(side, int | float) and 1 <= side < 2**31 for side in pair):
            sizes[index] = pair
    return sizes


def _areas(objects: Sequence[Mapping[str, Any]], boxes: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    of_boxes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return _numbers([row.get("area", own) for row, own in zip(objects, of_boxes.tolist(), strict=True)], path, "area")


def _refuse_corners_by_area(written: WrittenBoxes, area: NDArray[np.float64], form: Form) -> None:
    """Raise UserError where every area is that of corners, and not of x, y, width, height."""
    x, y, third, fourth = written.numbers.T
    clear = (x > 0) & (y > 0) & (area > 0)
    corners = np.isclose((third - x) * (fourth - y), area, rtol=0.01) & (third > x)
    if not form.given and clear.any() and corners[clear].all():
        index = int(np.flatnonzero(clear)[0])
        raise UserError(f"{written.told(index)} and area {area[index]:g}, that of corners: add boxes=xyxy")


def _flag(row: Mapping[str, Any], number: int, path: Path) -> bool:
    value = row.get("iscrowd")
    if value in (None, "", 0, 1, "0", "1"):
        return value in (1, "1")
    raise UserError(f"{path}: iscrowd of entry {number} is {str(value)[:60]}, must be 0 or 1")


def _numbers(values: Sequence[Any], path: Path, key: str, width: int | None = None) -> NDArray[np.float64]:
    """float64 [N], or [N, width], all finite; raises UserError naming the first entry that is not."""
    shape = (len(values),) if width is None else (len(values), width)
    for number, value in enumerate(values):
        row = [value] if width is None else value
        if not isinstance(row, list) or len(row) != (width or 1) or not all(_is_number(item) for item in row):
            told = "null" if value is None else str(value)[:80]
            wanted = "a number" if width is None else f"{width} numbers"
            raise UserError(f"{path}: {key} of entry {number} is {told}, must be {wanted}")
    numbers = np.array(values, np.float64).reshape(shape)
    bad = np.flatnonzero(~np.isfinite(numbers).reshape(len(values), width or 1).all(axis=1))
    if len(bad):
        raise UserError(f"{path}: {key} of entry {bad[0]} is {values[bad[0]]}, must be finite")
    return numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53)
