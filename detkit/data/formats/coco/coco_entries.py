"""Parse the entries of a COCO json file into typed rows; training and evaluation share it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from detkit.core.errors import UserError
from detkit.core.plain import Json
from detkit.core.structures import Size
from detkit.core.text_file import read_json
from detkit.data.formats.coco.coco_file import CocoCategory, CocoFile, CocoImage, CocoObject
from detkit.data.formats.coco.coco_mask import segmentation_box
from detkit.data.formats.coco.coco_value import ascending, id_text, is_text, number_of, shorten

_BEYOND = 1e30  # pixels; what float32 holds without becoming infinite
_FLAGS = {"0": False, "1": True, "false": False, "true": True, "": False}


def read_coco_file(path: str | Path) -> CocoFile:
    """Read the images, categories and annotations of a COCO json file, whose boxes follow COCO's rule.

    As `parse_coco`, and boxes of a negative width or height are faults, too.
    Raises UserError where the file cannot be read, or has no list of images or of categories.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    file = parse_coco(content, path)
    negative = {item.entry for item in file.objects if item.bbox[2] < 0 or item.bbox[3] < 0}
    for entry in sorted(negative):
        row = content["annotations"][entry]
        told = f"bbox {shorten(row['bbox'])} has a negative width or height: it is [x, y, width, height]"
        file.fault("unreadable box", f"{file.name(entry, row.get('id'))}: {told}")
    if negative:
        file.objects = [item for item in file.objects if item.entry not in negative]
    return file


def parse_coco(content: Json, path: str | Path) -> CocoFile:
    """Parse what a COCO json file holds; path: for messages.

    Ids are compared as text: 1, 1.0 and "1" are the same. Numbers may be written as text. Where there is no box, that
    around the segmentation counts. Entries that lack what they need, and ids that repeat, are faults with the number of
    the entry, from 0. `annotations` may be missing or null. Raises UserError where there is no list of images or of
    categories.
    """
    file = CocoFile(Path(path))
    needed = {"images", "categories"}
    missing = needed - set(content) if isinstance(content, dict) else needed
    if missing:
        raise UserError(f"{path} is not COCO json: it has no {', '.join(sorted(missing))}")
    _read_images(file, _rows(file, content, "images"))
    _read_categories(file, _rows(file, content, "categories"))
    _read_objects(file, _rows(file, content, "annotations"))
    return file


def parse_results(rows: list[Json], path: str | Path) -> CocoFile:
    """Parse a list of COCO results, [{"image_id", "category_id", "bbox", ...}, ...]: a file of objects alone."""
    file = CocoFile(Path(path), rows="results")
    _read_objects(file, rows)
    return file


def _rows(file: CocoFile, content: dict[str, Json], key: str) -> list[Json]:
    rows = content.get(key)
    if rows is None and key == "annotations":
        return []
    if not isinstance(rows, list):
        raise UserError(f"{file.path} is not COCO json: {key} is {shorten(rows)}, not a list")
    return rows


def _read_images(file: CocoFile, rows: list[Json]) -> None:
    names: dict[str, str] = {}  # file -> id
    seen: dict[str, str] = {}  # id -> file
    for number, row in enumerate(rows):
        where = f"entry {number} of images"
        if not isinstance(row, dict):
            file.fault("unreadable entry", f"{where} is {shorten(row)}, not an object")
            continue
        image_id, name = id_text(row.get("id")), row.get("file_name")
        if image_id is None or not isinstance(name, str) or not name.strip() or "\0" in name or not is_text(name):
            key = "id" if image_id is None else "file_name"
            file.fault("unreadable entry", f"{where} has no {key}: it has {shorten(row)}")
            if image_id is not None:
                file.broken.add(image_id)
            continue
        if image_id in seen:
            other = "" if seen[image_id] == name else f", as {seen[image_id]} and as {name}"
            file.fault("duplicate id", f"image {image_id} is listed twice{other}; its first entry counts")
            continue
        seen[image_id] = name
        if name in names:
            file.fault("duplicate image", f"images {names[name]} and {image_id} are the same file {name}")
        names.setdefault(name, image_id)
        size = _size(row)
        if size == (0, 0):
            sides = f"width {shorten(row.get('width'))} and height {shorten(row.get('height'))}"
            declared = sides if "width" in row or "height" in row else "no size"
            file.fault("missing size", f"image {image_id} ({name}) declares {declared}")
        file.images.append(CocoImage(image_id, name, size))
    file.broken -= seen.keys()


def _size(row: dict[str, Json]) -> Size:
    height, width = number_of(row.get("height")), number_of(row.get("width"))
    usable = height is not None and width is not None and 1 <= height < 2**31 and 1 <= width < 2**31
    return (int(height), int(width)) if usable and height is not None and width is not None else (0, 0)


def _read_categories(file: CocoFile, rows: list[Json]) -> None:
    found: dict[str, CocoCategory] = {}
    for number, row in enumerate(rows):
        where = f"entry {number} of categories"
        category_id = id_text(row.get("id")) if isinstance(row, dict) else None
        name = id_text(row.get("name")) if isinstance(row, dict) else None  # a name may be a number, too
        if category_id is None or name is None:
            key = "id" if category_id is None else "name"
            file.fault("unreadable entry", f"{where} has no {key}: it has {shorten(row)}")
        elif category_id in found:
            other = found[category_id].name
            file.fault("duplicate id", f"category {category_id} is listed twice, as {other!r} and as {name!r}")
        else:
            above = row.get("supercategory")
            number_ = row["id"] if isinstance(row["id"], str) else int(row["id"])
            found[category_id] = CocoCategory(category_id, number_, name, above if isinstance(above, str) else "none")
    file.categories = sorted(found.values(), key=lambda category: ascending(category.id))
    ids: dict[str, list[str]] = {}
    for category in file.categories:
        ids.setdefault(category.name, []).append(category.id)
    for name, same in ids.items():
        if len(same) > 1:
            file.fault(
                "duplicate class",
                f"categories {' and '.join(same)} are both called {name!r}; taken as one class",
            )


def _read_objects(file: CocoFile, rows: list[Json]) -> None:
    texts: dict[object, str] = {}  # ids repeat, so each is put into text once
    for number, row in enumerate(rows):
        try:
            image, category = row["image_id"], row["category_id"]
            image_id = texts.get(image) or _id(texts, image, "image_id")
            category_id = texts.get(category) or _id(texts, category, "category_id")
            bbox = row.get("bbox")
            outlined = not bbox
            x, y, width, height = _box_of_segmentation(row) if outlined else bbox
            if not (type(x) is type(y) is type(width) is type(height) is float):
                x, y, width, height = _coordinate(x), _coordinate(y), _coordinate(width), _coordinate(height)
            if not abs(x) + abs(y) + abs(width) + abs(height) < _BEYOND:  # nan is not below anything
                raise ValueError(f"bbox {shorten(bbox)} is not finite, or beyond any picture")
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raw_id = row.get("id") if isinstance(row, dict) else None
            file.fault("unreadable box", f"{file.name(number, raw_id)}: {_explain(row, error)}")
            continue
        area, crowd = row.get("area"), row.get("iscrowd")
        if area is not None and (type(area) is not float or not 0 <= area < _BEYOND):
            area = _area(file, number, row)
        if crowd is not None and (type(crowd) is not int or not 0 <= crowd <= 1):
            crowd = _crowd(file, number, row)
        bbox = (x, y, width, height)
        file.objects.append(CocoObject(number, image_id, category_id, bbox, outlined, bool(crowd), area))
    _find_repeated(file, rows)


def _id(texts: dict[object, str], value: object, key: str) -> str:
    text = id_text(value)
    if text is None:
        raise ValueError(f"{key} is {shorten(value)}")
    texts[value] = text
    return text


def _box_of_segmentation(row: dict[str, Json]) -> tuple[float, float, float, float]:
    """[x, y, width, height]; raises ValueError where there is nothing to put a box around."""
    segmentation = row.get("segmentation")
    box = None if segmentation in (None, [], {}, "") else segmentation_box(segmentation)
    if box is None:
        declared = f"bbox is {shorten(row['bbox'])}" if "bbox" in row else "no bbox"
        raise ValueError(f"{declared}, and no segmentation to put a box around")
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def _coordinate(value: object) -> float:
    number = number_of(value)
    if number is None:
        raise ValueError(f"bbox holds {shorten(value)}, no number")
    return number


def _area(file: CocoFile, number: int, row: dict[str, Json]) -> float | None:
    """The declared area; None where it cannot be one."""
    area = number_of(row["area"])
    if area is None or not 0 <= area < math.inf:
        told = f"area is {shorten(row['area'])}; that of its box counts"
        file.fault("unreadable area", f"{file.name(number, row.get('id'))}: {told}")
        return None
    return area


def _crowd(file: CocoFile, number: int, row: dict[str, Json]) -> bool:
    declared = row["iscrowd"]
    text = str(declared).strip().lower()
    as_number = number_of(declared)
    if text in _FLAGS:
        return _FLAGS[text]
    if as_number in (0, 1):
        return bool(as_number)
    told = f"iscrowd is {shorten(declared)}; taken as 0"
    file.fault("unreadable iscrowd", f"{file.name(number, row.get('id'))}: {told}")
    return False


def _find_repeated(file: CocoFile, rows: list[Json]) -> None:
    raw = [row.get("id") for row in rows if type(row) is dict]
    if set(map(type, raw)) == {int} and len(set(raw)) == len(raw):  # the usual file, in the least time
        return
    ids = [text for row in rows if isinstance(row, dict) and (text := id_text(row.get("id"))) is not None]
    if len(set(ids)) == len(ids):
        return
    repeated = {text: count for text, count in Counter(ids).items() if count > 1}
    for text, count in repeated.items():
        file.fault("repeated id", f"annotation id {text} is given to {count} entries; each counts as an object")


def _explain(row: Json, error: Exception) -> str:
    if not isinstance(row, dict):
        return f"is {shorten(row)}, not an object"
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    for key in ("image_id", "category_id"):
        if id_text(row[key]) is None:
            return f"{key} is {shorten(row[key])}"
    if isinstance(error, ValueError) and "unpack" not in str(error):
        return str(error)
    return f"bbox is {shorten(row.get('bbox'))}, must be four numbers x, y, width, height"
