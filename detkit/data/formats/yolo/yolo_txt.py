"""Read YOLO text labels: images/<split>/x.jpg with labels/<split>/x.txt, and a data.yaml of classes and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detkit.core.errors import UserError
from detkit.core.structures import Size
from detkit.core.text_file import numbered_lines
from detkit.data.annotation_builder import AnnotationBuilder, RawObject
from detkit.data.annotations import Annotations
from detkit.data.formats.yolo.yolo_labels import LabelFinder
from detkit.data.formats.yolo.yolo_line import Box, parse_yolo_line
from detkit.data.formats.yolo.yolo_split import YoloSplit, find_split
from detkit.data.formats.yolo.yolo_yaml import YoloDescription, read_description
from detkit.image.picture_finder import describe_passed_over
from detkit.image.read import read_image_size


def read_yolo(root: str | Path, split: str, classes: Sequence[str] | None = None) -> Annotations:
    """One split of a data set in YOLO text form.

    A yaml file in `root` with `names` (and train, val, test: folders, lists of folders, or text files of image
    paths) is used where there is one, or `root` may be that file; else images are in images/<split>, <split>/images or
    <split>, and names in classes.txt or obj.names. The label file of .../images/x.jpg is .../labels/x.txt, or as
    `LabelFinder` has it; an image without one has no objects. `parse_yolo_line` says what a line may be; shares are
    those of the upright picture.
    Image ids are paths below `root` without suffix. Raises UserError where the split or the names do not exist, or no
    image has a label file; broken lines become faults. Reads the header of every image, for its size.
    """
    root, split = Path(root), str(split)
    file = root if root.is_file() else None
    if file is not None and file.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"data.root={root} is a file: give the folder of the data set, or its data.yaml")
    base = root if file is None else file.parent
    described = read_description(base, file)
    source = f"data.root={root} split={split}"
    images = find_split(base, split, described)
    names = described.names or dict(enumerate(classes or []))
    if not names:
        raise UserError(f"data.root={root} names no classes: set data.classes, or write data.yaml with `names`")
    builder = AnnotationBuilder(list(names.values()) if classes is None else classes, source)
    for fault in images.faults:
        builder.fault(*fault)
    builder.note(describe_passed_over(images.passed_over, ", ".join(map(str, images.places))))

    reader = _Labels(LabelFinder(base), names, described)
    found = [entry for path in images.pictures if (entry := reader.read(path, builder)) is not None]
    builder.looked_in(*images.places, *reader.finder.looked_in(images.pictures))
    _count_labels(found, reader.finder, builder, images)
    doubt = _counted_from_one(found, names)
    if doubt:
        builder.fault("counted from 1", found[0].labels or base, doubt)
    for entry in found:
        objects = [] if doubt else _known_objects(entry, names, builder)
        where = entry.labels or entry.image
        builder.add(
            path=entry.image, image_id=_image_id(base, entry.image), size=entry.size, objects=objects, where=where
        )
    return builder.build()


class _Entry(NamedTuple):
    """A picture and what its label file has: (number of the line, class, box)."""

    image: Path
    size: Size
    labels: Path | None
    rows: list[tuple[int, int, Box]]


class _Labels:
    """Reads pictures and their label files."""

    def __init__(self, finder: LabelFinder, names: Mapping[int, str], described: YoloDescription) -> None:
        self.finder = finder
        self.names = names
        self.keypoints = described.keypoints

    def read(self, image: Path, builder: AnnotationBuilder) -> _Entry | None:
        """The size of a picture and its rows; None, and a fault, where the picture cannot be read."""
        try:
            size = read_image_size(image)
        except UserError as error:
            builder.fault("unreadable image" if image.exists() else "missing image", image, str(error))
            return None
        labels = self.finder.find(image)
        return _Entry(image, size, labels, [] if labels is None else self._rows(labels, size, builder))

    def _rows(self, path: Path, size: Size, builder: AnnotationBuilder) -> list[tuple[int, int, Box]]:
        rows = []
        try:
            for number, line in numbered_lines(path):
                try:
                    rows.append((number, *parse_yolo_line(line, size, self.keypoints)))
                except ValueError as error:
                    builder.fault("unreadable box", path, f"line {number}: {error}")
        except (OSError, UserError) as error:
            builder.fault("unreadable annotation", path, str(error).removeprefix(f"{path} "))
        return rows


def _count_labels(found: list[_Entry], finder: LabelFinder, builder: AnnotationBuilder, images: YoloSplit) -> None:
    """Say which pictures have no label file and which label files no picture; refuse where no picture has one."""
    without = [entry.image for entry in found if entry.labels is None]
    if found and len(without) == len(found):
        places = ", ".join(finder.looked_in(without)[:6])
        raise UserError(
            f"{builder.source}: no label file for any of {len(found)} pictures: {without[0].stem}.txt, of "
            f"{without[0]}, is in none of {places}"
        )
    if without:
        builder.note(
            f"{builder.source}: {len(without)} of {len(found)} pictures have no label file, as {without[0]}: "
            "taken as pictures without objects"
        )
    if images.whole_folders:
        for path, other in finder.without_picture(images.pictures):
            hint = f"; there is {other}, which cannot be read: convert it to JPEG or PNG" if other else ""
            builder.fault("labels without picture", path, f"is the label file of no picture of the split{hint}")


def _counted_from_one(found: list[_Entry], names: Mapping[int, str]) -> str:
    """Why the classes of a split seem to be counted from 1, or nothing: then none of its objects can be believed."""
    used = {index for entry in found for _, index, _ in entry.rows}
    if not used or min(used) != 1 or max(used) != max(names) + 1 or min(names) != 0:
        return ""
    return f"{_stranger(max(used), names)} No object is of class 0, so no class of the split is believed"


def _known_objects(entry: _Entry, names: Mapping[int, str], builder: AnnotationBuilder) -> list[RawObject]:
    objects = []
    for number, index, box in entry.rows:
        if index in names:
            objects.append(RawObject(names[index], box))
        else:
            builder.fault("unknown class", entry.labels, f"line {number}: {_stranger(index, names)}")
    return objects


def _stranger(index: int, names: Mapping[int, str]) -> str:
    last = max(names)
    has = f"{min(names)} to {last}" if len(names) == last - min(names) + 1 else ", ".join(map(str, list(names)[:20]))
    return f"class {index}, but names has {has}" + (": counted from 1?" if index == last + 1 else "")


def _image_id(root: Path, path: Path) -> str:
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    return inside.with_suffix("").as_posix()
