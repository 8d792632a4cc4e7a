"""Find image files: all below a folder, and the one that an annotation names."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detkit.image.read import is_picture

# what lies beside pictures and is none: nobody needs to be told that it was passed over
_EXPECTED = frozenset({".txt", ".xml", ".json", ".yaml", ".yml", ".csv", ".md", ".cache", ".names", ".db", ".ini", ""})


class Found(NamedTuple):
    """path: of the one picture meant, else None; kind, reason: of the fault then, the reason as a sentence."""

    path: str | None
    kind: str = ""
    reason: str = ""


class Listing(NamedTuple):
    """paths: sorted. passed_over: how many files are no pictures, by suffix; annotation files are not counted."""

    paths: list[Path]
    passed_over: Counter[str]


def list_pictures(folder: str | Path) -> Listing:
    """List the pictures below a folder, links to folders followed, hidden files left out."""
    paths, passed_over = [], Counter[str]()
    for path in walk_files(folder):
        suffix = Path(path).suffix.lower()
        if is_picture(path):
            paths.append(Path(path))
        elif suffix not in _EXPECTED:
            passed_over[suffix] += 1
    return Listing(sorted(paths), passed_over)


def describe_passed_over(passed_over: Mapping[str, int], folder: object) -> str:
    """A sentence on the files of a folder that are no pictures; empty where there are none."""
    counts = ", ".join(f"{count} x {suffix}" for suffix, count in sorted(passed_over.items()))
    return f"passed over in {folder}, as no pictures that can be read: {counts}" if counts else ""


def walk_files(folder: str | Path) -> Iterator[str]:
    """Yield the path of every file below a folder; links to folders are followed, once each, and hidden ones left."""
    seen = {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        inner = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(place, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                inner.append(name)
        folders[:] = inner
        yield from (os.path.join(place, name) for name in sorted(files) if not name.startswith("."))


class PictureFinder:
    """Finds the pictures that annotations name, below the folders where a layout keeps them.

    A name is looked for, in this order:
    1. as it is (`\\` counts as `/`), in each folder in turn, then as an absolute path;
    2. by the longest tail of it that exists in a folder: of `C:\\data\\train\\a.jpg` `data/train/a.jpg`,
       `train/a.jpg`, `a.jpg`;
    3. the same without or with another suffix: `a` and `a.png` find `a.jpg`;
    4. as a file of that name anywhere below `root`.
    Names are compared in Unicode's composed form (a Mac writes é as two characters), and without regard to case where
    nothing fits otherwise. Where a step finds several pictures that differ, none is taken: which is meant cannot be
    told. Folders are listed once, so a name costs no call to the system.
    """

    def __init__(self, folders: Sequence[str | Path], root: str | Path) -> None:
        self.folders = list(dict.fromkeys(str(folder) for folder in folders))
        self.root = str(root)
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}
        self._below: dict[str, list[str]] | None = None

    def find(self, name: str) -> Found:
        """Find the picture called `name`: a path, a file name, or a stem."""
        clean = name.strip().replace("\\", "/")
        parts = [part for part in clean.split("/") if part not in ("", ".")]
        if not parts:
            return Found(None, "missing image", "no name of a picture is given")
        if os.path.isabs(clean) and os.path.isfile(clean):
            return Found(clean)
        for any_suffix in (False, True):
            for start in range(len(parts)):
                hits = self._in_folders(parts[start:], any_suffix)
                if hits:
                    return self._one(name, hits)
        return self._one(name, self._anywhere(parts[-1]))

    def _in_folders(self, parts: list[str], any_suffix: bool) -> list[str]:
        """The pictures at `parts` below the first folder that has any."""
        for folder in self.folders:
            hits = self._descend(folder, parts, any_suffix)
            if hits:
                return hits
        return []

    def _descend(self, folder: str, parts: list[str], any_suffix: bool) -> list[str]:
        for part in parts[:-1]:
            if part == "..":
                folder = os.path.dirname(folder)
                continue
            inner = [path for path in self._named(folder, part) if os.path.isdir(path)]
            if len(inner) != 1:
                return []
            folder = inner[0]
        if any_suffix:
            return self._with_stem(folder, parts[-1])
        return [path for path in self._named(folder, parts[-1]) if os.path.isfile(path)]

    def _named(self, folder: str, name: str) -> list[str]:
        """What is called `name` in a folder: to the letter, else composed, else but for case."""
        listing = self._list(folder)
        composed = _composed(name)
        names = listing.get(composed, [])
        if name in names:
            names = [name]
        names = names or listing.get(f"/{composed.casefold()}", [])
        return [os.path.join(folder, found) for found in names]

    def _with_stem(self, folder: str, name: str) -> list[str]:
        """The pictures of a folder whose name without suffix is `name`, or `name` without its suffix."""
        if folder not in self._stems:
            stems: dict[str, list[str]] = defaultdict(list)
            for key, names in self._list(folder).items():
                if not key.startswith("/"):
                    for found in filter(is_picture, names):
                        stems[_composed(os.path.splitext(found)[0]).casefold()].append(found)
            self._stems[folder] = dict(stems)
        stems_of = self._stems[folder]
        wanted = [name, os.path.splitext(name)[0]] if is_picture(name) else [name]
        for stem in wanted:
            names = stems_of.get(_composed(stem).casefold(), [])
            if names:
                return [os.path.join(folder, found) for found in names]
        return []

    def _list(self, folder: str) -> dict[str, list[str]]:
        """The names in a folder by composed form, and by "/" and that without case."""
        if folder not in self._listings:
            found: dict[str, list[str]] = defaultdict(list)
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            for name in names:
                composed = _composed(name)
                found[composed].append(name)
                found[f"/{composed.casefold()}"].append(name)
            self._listings[folder] = dict(found)
        return self._listings[folder]

    def _anywhere(self, name: str) -> list[str]:
        if self._below is None:
            self._below = defaultdict(list)
            for path in walk_files(self.root):
                if is_picture(path):
                    self._below[_composed(os.path.basename(path))].append(path)
        return self._below.get(_composed(name), [])

    def _one(self, name: str, hits: list[str]) -> Found:
        if len(hits) == 1:
            return Found(hits[0])
        if not hits:
            stem = os.path.basename(name.replace("\\", "/"))
            others = [f for folder in self.folders for f in self._others(folder, {stem, os.path.splitext(stem)[0]})]
            hint = f"; there is {others[0]}, which cannot be read: convert it to JPEG or PNG" if others else ""
            return Found(None, "missing image", f"no picture {name}; looked in {', '.join(self.folders)}{hint}")
        return Found(None, "ambiguous image", f"{name} may be any of {', '.join(sorted(hits)[:4])}: keep one of them")

    def _others(self, folder: str, stems: set[str]) -> list[str]:
        """The files of a folder that are called like a picture and are none that Pillow reads."""
        names = sorted({name for found in self._list(folder).values() for name in found})
        return [
            os.path.join(folder, name)
            for name in names
            if os.path.splitext(name)[0] in stems
            and os.path.splitext(name)[1].lower() not in _EXPECTED
            and not is_picture(name)
        ]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
