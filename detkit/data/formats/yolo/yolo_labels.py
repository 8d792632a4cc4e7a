"""Find the label file of an image in YOLO form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from detkit.image.read import is_picture

_LABELS = ("labels", "label", "annotations", "annotation")
_NO_LABELS = (
    "classes.txt",
    "train.txt",
    "val.txt",
    "valid.txt",
    "test.txt",
    "notes.txt",
    "readme.txt",
    "_darknet.labels",
)


class _Place(NamedTuple):
    """A folder of label files; own: it holds those of one folder of pictures and of no other."""

    folder: str
    own: bool


class LabelFinder:
    """Finds the label file of a picture: x.txt, x.TXT or x.jpg.txt, of x.jpg, in the first of these folders.

    1. the picture's path with "labels" in place of "images", or the like of both, in any case;
    2. the folder of the picture;
    3. the picture's path below `root` with a folder of labels put in, or in place of one of its folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.path.abspath(root)
        self._places: dict[str, list[_Place]] = {}
        self._lists: dict[str, dict[str, str]] = {}

    def find(self, picture: Path) -> Path | None:
        """Find the label file of a picture; None where there is none."""
        for place in self._places_of(picture.parent):
            listed = self._list(place.folder)
            for name in (f"{picture.stem}.txt", f"{picture.name}.txt"):
                found = listed.get(name) or listed.get(f"/{name.lower()}")
                if found is not None:
                    return Path(place.folder, found)
        return None

    def looked_in(self, pictures: Iterable[Path]) -> list[str]:
        """The folders where the label files of pictures are looked for; of each the places that exist, at least."""
        folders = dict.fromkeys(picture.parent for picture in pictures)
        places = [place.folder for folder in folders for place in self._places_of(folder)]
        around = [at for at in map(_around_images, folders) if at is not None]
        wanted = [str(above.joinpath("labels", *rest)) for above, rest in around]
        return list(dict.fromkeys([*wanted, *places]))

    def without_picture(self, pictures: Iterable[Path]) -> Iterator[tuple[Path, str]]:
        """(label file, what lies there of that name) that none of `pictures` has, in the folders that are theirs."""
        by_folder: dict[Path, set[str]] = {}
        for picture in pictures:
            by_folder.setdefault(picture.parent, set()).update((picture.stem.lower(), picture.name.lower()))
        for folder, names in by_folder.items():
            there = sorted(name for key, name in self._list(str(folder)).items() if not key.startswith("/"))
            for place in self._places_of(folder):
                if not place.own:
                    continue
                for key, name in self._list(place.folder).items():
                    stem, suffix = os.path.splitext(name)
                    is_label = not key.startswith("/") and suffix.lower() == ".txt" and name.lower() not in _NO_LABELS
                    if is_label and stem.lower() not in names:
                        other = next((o for o in there if os.path.splitext(o)[0] == stem and o != name), "")
                        if not is_picture(other):
                            yield Path(place.folder, name), other

    def _places_of(self, folder: Path) -> list[_Place]:
        key = str(folder)
        if key not in self._places:
            places = [_Place(key, True)]
            around = _around_images(folder)
            before = [] if around is None else self._labels_at(around, own=True)
            parts = _below(self.root, folder)
            top = Path(*folder.parts[: len(folder.parts) - len(parts)])
            after = []
            for level in range(len(parts), -1, -1):
                base, rest = top.joinpath(*parts[:level]), parts[level:]
                after += self._labels_at((base, rest), own=bool(parts))
                after += self._labels_at((base, rest[1:]), own=False) if rest else []
            chosen: dict[str, _Place] = {}
            for place in [*before, *places, *after]:
                chosen.setdefault(place.folder, place)
            self._places[key] = list(chosen.values())
        return self._places[key]

    def _labels_at(self, at: tuple[Path, tuple[str, ...]], own: bool) -> list[_Place]:
        """The folders called like labels in a folder, with the same path below them."""
        base, rest = at
        listed = self._list(str(base))
        names = [name for key, name in listed.items() if not key.startswith("/") and name.lower() in _LABELS]
        names.sort(key=lambda name: (_LABELS.index(name.lower()), name))
        folders = [os.path.join(base, name, *rest) for name in names]
        return [_Place(folder, own) for folder in folders if os.path.isdir(folder)]

    def _list(self, folder: str) -> dict[str, str]:
        """The names in a folder, by themselves, and by "/" and themselves in lower case."""
        if folder not in self._lists:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            self._lists[folder] = {f"/{name.lower()}": name for name in names} | {name: name for name in names}
        return self._lists[folder]


def _around_images(folder: Path) -> tuple[Path, tuple[str, ...]] | None:
    """What is above the last folder "images", and the path below it."""
    for level in range(len(folder.parts) - 1, -1, -1):
        if folder.parts[level].lower() == "images":
            return Path(*folder.parts[:level]), folder.parts[level + 1 :]
    return None


def _below(root: str, folder: Path) -> tuple[str, ...]:
    """The parts of a folder below the root of the data set; of one elsewhere the last."""
    inside = os.path.relpath(os.path.abspath(folder), root)
    if inside == os.curdir:
        return ()
    parts = Path(inside).parts
    return parts[-1:] if parts[0] == os.pardir else parts
