"""YOLO text: images/<split>/x.jpg with labels/<split>/x.txt, and a data.yaml that names classes and splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from detkit.data.annotations import Annotations
from detkit.data.builder import AnnotationBuilder, RawObject, nearest
from detkit.data.image import IMAGE_SUFFIXES, read_image_size
from detkit.errors import UserError
from detkit.types import Size


def read_yolo(root: str | Path, split: str, classes: Sequence[str] | None = None) -> Annotations:
    """One split of a data set in YOLO text form.

    A yaml file in `root` with `names` (and train, val, test: folders, lists of folders, or text files of image
    paths) is used where there is one; else images are in images/<split>, <split>/images or <split>, and names in
    classes.txt or obj.names. The label file of .../images/x.jpg is .../labels/x.txt, or x.txt beside the image; an
    image without one has no objects. A line is "class cx cy w h" in shares of the image, which are those of the
    upright picture; "class x1 y1 x2 y2 x3 y3 ..." is a polygon and becomes its bounding box.
    Image ids are paths below `root` without suffix. Raises UserError where the split or the names do not exist;
    broken lines become faults. Reads the header of every image, for its size.
    """
    root = Path(root)
    described = _description(root)
    images = _images(root, split, described)
    names = _class_names(root, described) or (list(classes) if classes is not None else [])
    if not names:
        raise UserError(f"data.root={root} names no classes: set data.classes, or write data.yaml with `names`")
    builder = AnnotationBuilder(names if classes is None else classes, f"data.root={root} split={split}")
    for path in images:
        try:
            size = read_image_size(path)
        except UserError as error:
            builder.fault("unreadable image" if path.exists() else "missing image", path, str(error))
            continue
        labels = _label_file(path)
        objects = _read_labels(labels, size, names, builder) if labels.is_file() else []
        builder.add(path=path, image_id=_image_id(root, path), size=size, objects=objects, where=labels)
    return builder.build()


def parse_yolo_line(line: str, size: Size) -> tuple[int, tuple[float, float, float, float]]:
    """(class index, box xyxy in pixels of an image of `size`) of one line; raises ValueError saying what is wrong."""
    fields = line.split()
    index = int(fields[0])
    values = [float(field) for field in fields[1:]]
    height, width = size
    if len(values) == 4:
        cx, cy, w, h = values
        xs, ys = [cx - w / 2, cx + w / 2], [cy - h / 2, cy + h / 2]
    elif len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        xs, ys = [min(xs), max(xs)], [min(ys), max(ys)]
    else:
        raise ValueError(f"{len(values)} numbers after the class: want 4, or 3 or more pairs")
    return index, (xs[0] * width, ys[0] * height, xs[1] * width, ys[1] * height)


def _read_labels(path: Path, size: Size, names: list[str], builder: AnnotationBuilder) -> list[RawObject]:
    objects = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        builder.fault("unreadable annotation", path, str(error))
        return []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            index, box = parse_yolo_line(line, size)
        except ValueError as error:
            builder.fault("unreadable box", path, f"line {number}: {error}")
            continue
        name = names[index] if 0 <= index < len(names) else f"number {index} of {len(names)}"
        objects.append(RawObject(name, box))
    return objects


def _description(root: Path) -> dict[str, Any]:
    """The content of the first yaml file of `root` that has `names`, else nothing."""
    preferred = [root / "data.yaml", root / "dataset.yaml"]
    for path in dict.fromkeys([*preferred, *sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml"))]):
        if not path.is_file():
            continue
        try:
            content = OmegaConf.to_container(OmegaConf.load(path))
        except Exception as error:  # the yaml parser has many kinds
            raise UserError(f"cannot read {path}: {error}") from error
        if isinstance(content, dict) and "names" in content:
            return {str(key): value for key, value in content.items()}
    return {}


def _class_names(root: Path, described: dict[str, Any]) -> list[str]:
    names = described.get("names")
    if isinstance(names, dict):
        return [str(names.get(index, index)) for index in range(max(map(int, names), default=-1) + 1)]
    if names is not None:
        return [str(name) for name in names]
    for file in ("classes.txt", "obj.names"):
        if (root / file).is_file():
            return [line.strip() for line in (root / file).read_text("utf-8-sig").splitlines() if line.strip()]
    return []


def _images(root: Path, split: str, described: dict[str, Any]) -> list[Path]:
    bases = [root / str(described.get("path") or "."), root]
    entries = described.get(split)
    if entries is not None:
        listed = [entries] if isinstance(entries, str) else list(entries)
        # exporters write "../train/images" for a folder inside root
        tried = [[base / name for name in (str(e), str(e).removeprefix("../")) for base in bases] for e in listed]
    else:
        tried = [[root / "images" / split, root / split / "images", root / split, root / f"{split}.txt"]]
    images: list[Path] = []
    for places in tried:
        place = next((place for place in places if place.exists()), None)
        if place is None:
            found = sorted({key for key in ("train", "val", "test") if key in described} | _split_folders(root))
            raise UserError(
                f"data.root={root} has no split {split!r}{nearest(split, found)}; tried "
                + ", ".join(str(path) for path in dict.fromkeys(places))
            )
        images += _listed(place) if place.is_file() else _below(place)
    return images


def _split_folders(root: Path) -> set[str]:
    inside = {path.name for path in root.glob("images/*") if path.is_dir()}
    return inside | {path.parent.name for path in root.glob("*/images") if path.is_dir()}


def _listed(file: Path) -> list[Path]:
    lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    return [file.parent / line for line in lines]


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _label_file(image: Path) -> Path:
    parts = list(image.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
        labels = Path(*parts).with_suffix(".txt")
        if labels.is_file():
            return labels
    return image.with_suffix(".txt")


def _image_id(root: Path, path: Path) -> str:
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    return inside.with_suffix("").as_posix()
