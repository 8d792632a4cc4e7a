"""COCO json files and the image folders beside them."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detkit.data.annotations import Annotations
from detkit.data.builder import AnnotationBuilder, RawObject, nearest
from detkit.errors import UserError
from detkit.types import Size


def read_coco(root: str | Path, split: str, classes: Sequence[str] | None = None) -> Annotations:
    """One split of a data set in COCO form.

    The file is the first of annotations/instances_<split>.json, annotations/<split>.json, <split>.json and
    <split>/_annotations.coco.json below `root`; `split` may also be the path of a json file. Images are looked for
    in images/<split>, <split>, images, beside the json and in `root` itself.

    Crowd regions come out as difficult. Labels follow ascending category id, or `classes` where given; image ids
    are those of the file as strings, and `category_ids` are its class numbers, so results can be written back.
    Boxes [x, y, width, height], 0-based, become [x, y, x + width, y + height].
    Raises UserError where the file does not exist or is not COCO json; broken entries become faults.
    """
    root = Path(root)
    path = _json_file(root, split)
    content = _load(path)
    names = {entry["id"]: str(entry["name"]) for entry in sorted(content["categories"], key=lambda entry: entry["id"])}
    ids = {name: number for number, name in names.items()}
    builder = AnnotationBuilder(list(names.values()) if classes is None else classes, f"data.root={root} split={split}")
    for name in builder.classes:
        if name not in ids:
            builder.fault("unknown class", path, f"has no category {name!r} of data.classes{nearest(name, list(ids))}")

    objects = _objects_by_image(content.get("annotations", []), names, builder, path)
    folder, present = _image_folder(root, path, split, content["images"])
    for entry in content["images"]:
        found = objects.pop(entry["id"], [])
        file = os.path.join(folder, entry["file_name"])
        if entry["file_name"] not in present and not os.path.isfile(file):
            builder.fault("missing image", file, "annotated but there is no such image")
            continue
        size = _size(entry)
        if size == (0, 0):
            builder.fault("missing size", path, f"image {entry['id']} declares no size")
        builder.add(path=file, image_id=str(entry["id"]), size=size, objects=found, where=f"{path} image {entry['id']}")
    for image_id in objects:
        builder.fault("missing image", path, f"has annotations of image {image_id} but no such image")
    known = all(name in ids for name in builder.classes)
    return builder.build(category_ids=[ids[name] for name in builder.classes] if known else None)


def _objects_by_image(
    entries: list[dict[str, Any]], names: dict[int, str], builder: AnnotationBuilder, path: Path
) -> dict[int, list[RawObject]]:
    objects: dict[int, list[RawObject]] = defaultdict(list)
    for entry in entries:
        try:
            x, y, width, height = (float(value) for value in entry["bbox"])
            area = float(entry["area"]) if "area" in entry else None
            name = names.get(entry["category_id"], f"category {entry['category_id']}")
            found = RawObject(name, (x, y, x + width, y + height), bool(entry.get("iscrowd", 0)), area)
            objects[entry["image_id"]].append(found)
        except (KeyError, TypeError, ValueError) as error:
            builder.fault("unreadable box", path, f"annotation {entry.get('id')}: {type(error).__name__} {error}")
    return objects


def _json_file(root: Path, split: str) -> Path:
    tried = [
        root / "annotations" / f"instances_{split}.json",
        root / "annotations" / f"{split}.json",
        root / f"{split}.json",
        root / split / "_annotations.coco.json",
    ]
    if split.endswith(".json"):
        tried = [root / split, Path(split)]
    for path in tried:
        if path.is_file():
            return path
    found = [path.stem.removeprefix("instances_") for path in sorted(root.glob("annotations/*.json"))]
    found += [path.stem for path in sorted(root.glob("*.json"))]
    found += [path.parent.name for path in sorted(root.glob("*/_annotations.coco.json"))]
    raise UserError(
        f"data.root={root} has no split {split!r}{nearest(split, found)}; tried "
        + ", ".join(str(path) for path in tried)
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    missing = {"images", "categories"} - set(content) if isinstance(content, dict) else {"images", "categories"}
    if missing:
        raise UserError(f"{path} is not COCO json: it has no {', '.join(sorted(missing))}")
    return content


def _image_folder(
    root: Path, path: Path, split: str, images: list[dict[str, Any]]
) -> tuple[str, frozenset[str] | set[str]]:
    """The first candidate that holds one of the images, and the names in it: one listing is cheaper than N stats."""
    candidates = [root / "images" / split, root / split, root / "images", path.parent, root]
    for folder in candidates:
        if folder.is_dir():
            present = set(os.listdir(folder))
            for entry in images[:100]:
                if entry["file_name"] in present or (folder / entry["file_name"]).is_file():
                    return str(folder), present
    return str(root / "images"), frozenset()


def _size(entry: dict[str, Any]) -> Size:
    try:
        return int(entry["height"]), int(entry["width"])
    except (KeyError, TypeError, ValueError):
        return 0, 0
