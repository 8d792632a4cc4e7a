"""Read COCO json files and the image folders beside them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from detkit.core.errors import UserError
from detkit.core.suggest import among
from detkit.data.annotation_builder import AnnotationBuilder, RawObject
from detkit.data.annotations import Annotations
from detkit.data.class_names import spelled_among
from detkit.data.formats.coco.coco_entries import read_coco_file
from detkit.data.formats.coco.coco_file import CocoCategory, CocoFile, CocoObject
from detkit.data.formats.split_names import names_of_split
from detkit.image.picture_finder import Found, PictureFinder

_PICTURES = ("images", "data", "imgs")  # what tools call the folder of pictures


def read_coco(root: str | Path, split: str, classes: Sequence[str] | None = None) -> Annotations:
    """One split of a data set in COCO form.

    The file is the first of annotations/instances_<split>.json, annotations/<split>.json, <split>.json,
    <split>/_annotations.coco.json and <split>/labels.json below `root`; `split` may also be the path of a json file,
    and `root` that of one which `split` names. val, valid and validation are the same, where only one of them exists.
    Pictures are looked for in images/<split>, <split>, beside the json, in `root`, and in folders images, data and
    imgs of these.

    Crowd regions come out as difficult. Labels follow ascending category id, or `classes` where given; image ids
    are those of the file as strings, and `category_ids` are its class numbers, so results can be written back (None
    where it lacks a class). A category that only stands above others, without objects, is no class.
    Raises UserError where the file does not exist or is not COCO json; broken entries become faults.
    """
    root, split = Path(root), str(split)
    base = root
    if root.is_file():
        base = root.parent.parent if root.parent.name.lower() == "annotations" else root.parent
    path = _json_file(root, split)
    file = read_coco_file(path)
    categories, note = _without_placeholder(file, classes)
    if classes is None and not categories:
        reasons = "".join(f"; {fault.message}" for fault in file.faults if "categories" in fault.message)
        raise UserError(f"{path} has no categories, so there are no classes{reasons}")
    ids: dict[str, int | str] = {}
    for category in categories:
        ids.setdefault(category.name, category.number)
    builder = AnnotationBuilder(list(ids) if classes is None else classes, f"data.root={root} split={split}")
    builder.note(note)
    for fault in file.faults:
        builder.fault(*fault)
    for name in builder.classes:
        if spelled_among(name, ids, builder.classes) is None:
            builder.fault("unknown class", path, f"has no category {name!r} of data.classes{among(name, list(ids))}")

    names = {category.id: category.name for category in file.categories}
    objects: dict[str, list[CocoObject]] = defaultdict(list)
    for item in file.objects:
        objects[item.image_id].append(item)
    pictures = _Pictures(base, path, split)
    builder.looked_in(path, *pictures.finder.folders)
    for image in file.images:
        found = [_raw(item, names) for item in objects.pop(image.id, ())]
        picture = pictures.find(image.file_name)
        if picture.path is None:
            builder.fault(picture.kind, path, f"image {image.id}: {picture.reason}")
            continue
        builder.add(
            path=picture.path, image_id=image.id, size=image.size, objects=found, where=f"{path} image {image.id}"
        )
    for image_id in objects:
        if image_id not in file.broken:
            builder.fault("missing image", path, f"has annotations of image {image_id} but no such image")
    numbers = [ids.get(spelled_among(name, ids, builder.classes) or "") for name in builder.classes]
    return builder.build(category_ids=numbers)


def _without_placeholder(file: CocoFile, classes: Sequence[str] | None) -> tuple[list[CocoCategory], str]:
    """The categories that are classes, and a note on what was left out: Roboflow writes its project as category 0.

    That is a name that has nothing above it and no objects, while others name it as theirs.
    """
    used = {item.category_id for item in file.objects}
    parents = {category.above for category in file.categories if category.above != category.name}
    left_out = [
        category
        for category in file.categories
        if category.name in parents
        and category.above.lower() in ("none", "")
        and category.id not in used
        and (classes is None or category.name not in classes)
    ]
    if not left_out:
        return file.categories, ""
    named = ", ".join(f"{category.name!r} (id {category.id})" for category in left_out)
    note = f"{file.path}: {named} has no objects and is only the supercategory of others: it is no class"
    return [category for category in file.categories if category not in left_out], note if classes is None else ""


def _raw(item: CocoObject, names: Mapping[str, str]) -> RawObject:
    name = names.get(item.category_id) or f"category {item.category_id}"
    area = item.bbox[2] * item.bbox[3] if item.area is None else item.area
    return RawObject(name, item.box, item.crowd, area)


class _Pictures:
    """Finds the pictures of a file; what is called exactly so in one of the folders at a look into its listing."""

    def __init__(self, base: Path, path: Path, split: str) -> None:
        name = path.stem.removeprefix("instances_") if split.endswith(".json") else split
        above = [path.parent.parent] if base in path.parent.parents else []
        places = [base / "images" / name, base / name, path.parent, *above, base]
        inner = [place / folder for place in places for folder in ("", *_PICTURES)]
        tried = list(dict.fromkeys([*places[:2], *inner]))
        folders = [folder for folder in tried if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)]
        self.finder = PictureFinder(folders or tried, base)
        self._listed = [(str(folder), frozenset(os.listdir(folder))) for folder in folders]

    def find(self, name: str) -> Found:
        """The picture that an entry names."""
        for folder, listed in self._listed:
            if name in listed:
                return Found(os.path.join(folder, name))
        return self.finder.find(name)


def _json_file(root: Path, split: str) -> Path:
    if root.is_file():
        return _beside(root, split)
    tried = [path for name in names_of_split(split) for path in _candidates(root, name)]
    path = next((path for path in tried if path.is_file()), None)
    if path is not None:
        return path
    found = [path.stem.removeprefix("instances_") for path in sorted(root.glob("annotations/*.json"))]
    found += [path.stem for path in sorted(root.glob("*.json"))]
    found += [path.parent.name for name in _INSIDE for path in sorted(root.glob(f"*/{name}"))]
    raise UserError(
        f"data.root={root} has no split {split!r}{among(split, found)}; tried "
        + ", ".join(str(path) for path in _candidates(root, split))
    )


_INSIDE = ("_annotations.coco.json", "labels.json")  # Roboflow, FiftyOne


def _candidates(root: Path, split: str) -> list[Path]:
    if split.endswith(".json"):
        return [root / split, Path(split)]
    named = [root / "annotations" / f"instances_{split}.json", root / "annotations" / f"{split}.json"]
    return [*named, root / f"{split}.json", *(root / split / name for name in _INSIDE)]


def _beside(file: Path, split: str) -> Path:
    """The json of a split where data.root is a file: that one, or one that lies like it."""
    for folder in (file.parent, file.parent.parent):
        for path in _candidates(folder, split):
            if path.is_file():
                return path
    name = file.stem.removeprefix("instances_")
    raise UserError(
        f"data.root={file} is one file, which is the split {name!r}, and there is no {split!r} beside it: "
        f"set data.root={file.parent} data.train_split={name} and data.val_split=null, or another file"
    )
