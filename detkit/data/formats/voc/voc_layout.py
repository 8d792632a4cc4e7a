"""Locate the lists, annotation files and images of a data set in PASCAL VOC form."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from detkit.core.errors import UserError
from detkit.core.suggest import among
from detkit.core.text_file import read_lines
from detkit.data.formats.split_names import SAME
from detkit.image.picture_finder import list_pictures, walk_files
from detkit.image.read import is_picture

# the names that exporters and people give the two folders, without regard to case; the first that exists counts
ANNOTATIONS = ("annotations", "annotation", "annots", "xmls", "xml", "labels", "label")
PICTURES = ("jpegimages", "jpegimage", "images", "image", "imgs", "img", "pictures", "photos", "data")
LISTS = ("ImageSets/Main", "ImageSets", ".")
ALL = "all"  # the split of everything, where there are no lists


class VocPlace:
    """One split of a folder: its entries, and where their files are.

    base: what its image ids are unique below. entries: as a list has them, or ids where there is no list.
    annotations: the folder of the XML files. pictures: the folders of the pictures. looked_in: what was looked at.
    """

    def __init__(self, base: Path, annotations: Path, pictures: Sequence[Path], list_file: Path | None) -> None:
        self.base = base
        self.annotations = annotations
        self.pictures = list(dict.fromkeys([*pictures, annotations]))
        self.list_file = list_file
        self._xml: dict[str, list[Path]] = defaultdict(list)
        for path in xml_files(annotations):
            self._xml[_composed(path.relative_to(annotations).with_suffix("").as_posix())].append(path)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for key in self._xml:
            self._by_name[key.rpartition("/")[2]].append(key)

    @property
    def looked_in(self) -> list[str]:
        """The places of this split, for messages."""
        lists = [] if self.list_file is None else [str(self.list_file)]
        return [*lists, str(self.annotations), *(str(path) for path in self.pictures[:1])]

    def entries(self) -> list[str]:
        """What the list of the split has; without a list, every annotation file and every picture."""
        if self.list_file is not None:
            return read_ids(self.list_file)
        found = set(self._xml)
        for folder in self.pictures[:1]:
            for path in list_pictures(folder).paths:
                found.add(_composed(path.relative_to(folder).with_suffix("").as_posix()))
        return sorted(found)

    def unlisted(self) -> list[str]:
        """The annotation files that no list of the folder has, sorted; none where there are no lists."""
        if self.list_file is None:
            return []
        lists = {path.stem: path for path in self.list_file.parent.glob("*.txt")}
        # the lists of the classes, "cat_train", repeat that of their split
        whole = [path for name, path in lists.items() if name.rpartition("_")[2] not in lists or "_" not in name]
        listed: set[str] = set()
        for path in whole:
            with contextlib.suppress(OSError, UserError):  # other splits are not asked for
                listed.update(read_ids(path))
        found = {self.find(entry)[0] for entry in listed}
        return sorted(str(path) for key, paths in self._xml.items() if key not in found for path in paths)

    def find(self, entry: str) -> tuple[str, list[Path]]:
        """(image id, annotation files that may be meant) of an entry: an id, a file name, or a path.

        Of a path its longest tail that exists counts, then a name that is unique among sub-folders. The suffix of a
        picture or .xml goes where nothing is called so with it.
        """
        parts = [part for part in _composed(entry).replace("\\", "/").split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            for key in dict.fromkeys((tail, _stem(tail))):
                if key in self._xml:
                    return key, self._xml[key]
        name = parts[-1] if parts else ""
        keys = self._by_name.get(name) or self._by_name.get(_stem(name), [])
        files = [path for key in keys for path in self._xml[key]]
        return (keys[0] if len(keys) == 1 else _stem(name)), files


def find_place(root: Path, part: str) -> VocPlace:
    """The place of one split, "train" or "VOC2007/train", below `root`.

    Lists are ImageSets/Main/<split>.txt, ImageSets/<split>.txt or <split>.txt. Without one, a split is a folder
    <split>/ with XML files (beside the pictures, or in folders of their own), the <split>/ of the two usual folders,
    or "all" that is there. val, valid and validation are the same, where only one of them exists.
    Raises UserError naming what was tried and what there is.
    """
    folder, name = root / Path(part).parent, Path(part).name
    tried: list[str] = []
    for same in dict.fromkeys((name, *next((names for names in SAME if name in names), ()))):
        for below in LISTS:
            path = folder / below / f"{same}.txt"
            tried.append(os.path.relpath(path, root))
            if path.is_file() and (below != "." or _has_xml(folder)):
                return _of_list(root, folder, path)
        place = _of_folder(folder, same)
        if place is not None:
            return place
        tried.append(os.path.relpath(folder / same, root) + "/*.xml")
    found = _splits(root)
    if name == ALL and not any("/" not in other for other in found) and _has_xml(folder):
        annotations = _child(folder) or folder
        return VocPlace(folder, annotations, _picture_folders(folder, annotations), None)
    if not found and _has_xml(folder):
        found, hint = [ALL], f"; it has no lists: {ALL!r} is the split of all its annotation files"
    else:
        hint = "" if found or root == folder or folder.is_dir() else f"; there is no folder {folder}"
    raise UserError(f"data.root={root} has no split {part!r}{among(part, found)}{hint}; tried {', '.join(tried[:4])}")


def read_ids(path: Path) -> list[str]:
    """The entries of a split file.

    The class lists of VOC add a column of -1, 0 or 1, which is left out; of "picture.jpg file.xml" the second counts.
    """
    ids = []
    for line in read_lines(path):
        stem, last = line.rsplit(None, 1) if len(line.split()) > 1 else (line, "")
        if last in ("-1", "0", "1"):
            line = stem.strip()
        elif last.lower().endswith(".xml") and is_picture(stem.strip()):
            line = last
        ids.append(line)
    return ids


def xml_files(folder: Path) -> list[Path]:
    """The XML files below a folder, sorted."""
    return sorted(Path(path) for path in walk_files(folder) if path.lower().endswith(".xml"))


def annotation_folder(folder: Path) -> Path:
    """Where all annotation files of a VOC folder are: the folder called so, else `folder` itself."""
    return _child(folder) or folder


def _of_list(root: Path, folder: Path, list_file: Path) -> VocPlace:
    annotations = _child(folder) or _child(folder, empty=True)
    if annotations is None:
        if not _has_xml(folder):
            raise UserError(
                f"data.root={root}: {list_file} is there, but {folder} has no folder of annotation files "
                f"(Annotations, {', '.join(ANNOTATIONS[1:])})"
            )
        annotations = folder
    return VocPlace(folder, annotations, _picture_folders(folder, annotations), list_file)


def _of_folder(folder: Path, split: str) -> VocPlace | None:
    """The split that is a folder of its own; None where there is none."""
    inside = folder / split
    if inside.is_dir() and split.lower() not in (*ANNOTATIONS, *PICTURES) and _has_xml(inside):
        annotations = _child(inside) or inside
        return VocPlace(inside, annotations, _picture_folders(inside, annotations), None)
    both = _child(folder)
    if both is not None and (both / split).is_dir() and _has_xml(both / split):
        pictures = [place / split for place in _picture_folders(folder, both) if (place / split).is_dir()]
        return VocPlace(inside, both / split, pictures or _picture_folders(folder, both), None)
    return None


def _picture_folders(folder: Path, annotations: Path) -> list[Path]:
    """Where pictures may be: the folders called so, then beside the annotation files."""
    named = sorted(
        (place for place in _folders(folder) if place.name.lower() in PICTURES),
        key=lambda place: PICTURES.index(place.name.lower()),
    )
    return [*named, annotations, folder]


def _splits(root: Path) -> list[str]:
    """The names of all splits below `root`, as `find_place` takes them."""
    found = set()
    for folder in (root, *_folders(root)):
        prefix = "" if folder == root else f"{folder.name}/"
        for below in LISTS[:2]:
            found |= {prefix + path.stem for path in (folder / below).glob("*.txt")}
    usual = (*ANNOTATIONS, *PICTURES, "imagesets")
    for folder in _folders(root):
        if folder.name.lower() in ANNOTATIONS:
            found |= {inner.name for inner in _folders(folder) if _of_folder(root, inner.name) is not None}
        elif folder.name.lower() not in usual and not (folder / "ImageSets").is_dir() and _has_xml(folder):
            found.add(folder.name)
    return sorted(found)


def _child(folder: Path, *, empty: bool = False) -> Path | None:
    """The folder of annotation files inside `folder`; `empty`: even where it has none."""
    inside = {place.name.lower(): place for place in _folders(folder)}
    return next((inside[name] for name in ANNOTATIONS if name in inside and (empty or _has_xml(inside[name]))), None)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _has_xml(folder: Path) -> bool:
    return any(path.lower().endswith(".xml") for path in walk_files(folder))


def _stem(name: str) -> str:
    """`name` without the suffix of a picture or an annotation file."""
    return os.path.splitext(name)[0] if is_picture(name) or name.lower().endswith(".xml") else name


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
