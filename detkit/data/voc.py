"""Folders in PASCAL VOC layout: ImageSets/Main/<split>.txt, Annotations/<id>.xml, JPEGImages/<id>.<any image>."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from detkit.data.annotations import Annotations
from detkit.data.builder import AnnotationBuilder, RawObject, nearest
from detkit.data.image import IMAGE_SUFFIXES
from detkit.errors import UserError
from detkit.types import Size


def read_voc(root: str | Path, split: str, classes: Sequence[str] | None = None) -> Annotations:
    """One split of a VOC folder.

    `split` is a name, or several joined by "+", each with an optional folder below `root`:
    "trainval", "VOC2007/trainval+VOC2012/trainval". Where the folders differ, image ids carry theirs
    ("VOC2007/000005"). Classes that are not given are all that the XML files of those folders hold, sorted.

    Coordinates are 1-based and inclusive in the files; ours are [xmin-1, ymin-1, xmax, ymax].
    Raises UserError where a split or a folder does not exist; broken files become faults.
    """
    root = Path(root)
    source = f"data.root={root} split={split}"
    parts = [part.strip() for part in split.split("+")]
    lists = [_split_file(root, part) for part in parts]
    folders = [root / Path(part).parent for part in parts]
    if classes is None:
        classes = find_voc_classes(dict.fromkeys(folders))
    builder = AnnotationBuilder(classes, source)
    for part, folder, list_file in zip(parts, folders, lists, strict=True):
        prefix = f"{Path(part).parent.as_posix()}/" if len(set(folders)) > 1 else ""
        images = _images_by_stem(folder)
        for image_id in read_ids(list_file):
            _add_image(builder, folder, image_id, prefix, images)
    return builder.build()


class VocFile(NamedTuple):
    """What one annotation file says; `bad` holds a sentence for each object that could not be read."""

    filename: str
    size: Size
    objects: list[RawObject]
    bad: list[str]


def parse_voc(path: str | Path) -> VocFile:
    """Read one annotation file; raises OSError or ElementTree.ParseError."""
    tree = ElementTree.parse(path).getroot()
    objects, bad = [], []
    for element in tree.iterfind("object"):
        name = (element.findtext("name") or "").strip()
        try:
            xmin, ymin, xmax, ymax = (
                float(element.findtext(f"bndbox/{key}") or "missing") for key in ("xmin", "ymin", "xmax", "ymax")
            )
        except ValueError:
            bad.append(f"an object {name!r} has no readable bndbox")
            continue
        difficult = (element.findtext("difficult") or "0").strip() not in ("", "0")
        objects.append(RawObject(name, (xmin - 1, ymin - 1, xmax, ymax), difficult))
    height, width = (_positive_int(tree.findtext(f"size/{key}")) for key in ("height", "width"))
    size = (height, width) if height and width else (0, 0)
    return VocFile((tree.findtext("filename") or "").strip(), size, objects, bad)


def find_voc_classes(folders: Iterable[Path]) -> list[str]:
    """The class names in all annotation files of `folders`, sorted: the same list whatever the split."""
    names: set[str] = set()
    for folder in folders:
        for path in sorted((folder / "Annotations").glob("*.xml")):
            try:
                names.update(item.name for item in parse_voc(path).objects)
            except (OSError, ElementTree.ParseError):
                continue  # reported as a fault if a split lists it
    return sorted(names)


def read_ids(path: Path) -> list[str]:
    """The image ids of a split file; the class lists of VOC add a column of -1, 0 or 1, which is left out."""
    ids = []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        stem, _, last = line.strip().rpartition(" ")
        image_id = stem.strip() if stem and last in ("-1", "0", "1") else line.strip()
        if image_id:
            ids.append(image_id)
    return ids


def _add_image(builder: AnnotationBuilder, folder: Path, image_id: str, prefix: str, images: dict[str, str]) -> None:
    xml = folder / "Annotations" / f"{image_id}.xml"
    try:
        parsed = parse_voc(xml)
    except FileNotFoundError:
        builder.fault("missing annotation", xml, "listed in the split but there is no such file")
        return
    except (OSError, ElementTree.ParseError) as error:
        builder.fault("unreadable annotation", xml, str(error))
        return
    image = images.get(image_id) or images.get(Path(parsed.filename).stem)
    if image is None:
        builder.fault("missing image", folder / "JPEGImages" / image_id, "annotated but there is no such image")
        return
    for message in parsed.bad:
        builder.fault("unreadable box", xml, message)
    if parsed.size == (0, 0):
        builder.fault("missing size", xml, "declares no image size")
    builder.add(path=image, image_id=prefix + image_id, size=parsed.size, objects=parsed.objects, where=xml)


def _split_file(root: Path, part: str) -> Path:
    folder, name = root / Path(part).parent, Path(part).name
    tried = [folder / "ImageSets" / "Main" / f"{name}.txt", folder / "ImageSets" / f"{name}.txt"]
    for path in tried:
        if path.is_file():
            return path
    found = sorted(
        (path.parent.parent.parent.relative_to(root) / path.stem).as_posix()
        for pattern in ("ImageSets/Main/*.txt", "*/ImageSets/Main/*.txt")
        for path in root.glob(pattern)
    )
    raise UserError(
        f"data.root={root} has no split {part!r}{nearest(part, found)}; tried "
        + ", ".join(str(path.relative_to(root)) for path in tried)
    )


def _images_by_stem(folder: Path) -> dict[str, str]:
    directory = folder / "JPEGImages"
    if not directory.is_dir():
        raise UserError(f"data.root: {folder} has no folder JPEGImages")
    with os.scandir(directory) as entries:
        files = sorted(entry.path for entry in entries if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES)
    return {Path(path).stem: path for path in files}


def _positive_int(text: str | None) -> int:
    try:
        return max(0, int(float(text or 0)))
    except ValueError:
        return 0
