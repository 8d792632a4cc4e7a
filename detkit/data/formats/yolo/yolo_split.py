"""List the images of a split in YOLO form."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from detkit.core.errors import UserError
from detkit.core.suggest import among
from detkit.core.text_file import numbered_lines
from detkit.data.annotations import Fault
from detkit.data.formats.split_names import names_of_split
from detkit.data.formats.yolo.yolo_yaml import YoloDescription
from detkit.image.picture_finder import PictureFinder, list_pictures


@dataclass
class YoloSplit:
    """pictures, and the folders and lists that they come from; whole_folders: no list chose among them."""

    pictures: list[Path] = field(default_factory=list)
    places: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    whole_folders: bool = True


def find_split(root: Path, split: str, described: YoloDescription) -> YoloSplit:
    """The pictures of a split: what data.yaml says, else images/<split>, <split>/images, <split>, <split>.txt.

    val, valid and validation are the same, where only one of them exists. Paths of another machine count by the
    longest tail that exists here. Raises UserError where there is no such split.
    """
    names = names_of_split(split)
    entries = next((described.splits[name] for name in names if name in described.splits), None)
    found = YoloSplit()
    if entries is not None:
        tried = [_places(root, described.path, entry) for entry in entries]
    else:
        tried = [[place for name in names for place in _by_name(root, name)]]
    for places in tried:
        place = next((place for place in places if place.exists()), None)
        if place is None:
            known = sorted({*described.splits, *_split_folders(root)} - {split})
            raise UserError(
                f"data.root={root} has no split {split!r}{among(split, known)}; tried "
                + ", ".join(str(path) for path in places[:8])
            )
        found.places.append(place)
        if place.is_file():
            found.whole_folders = False
            _add_listed(found, place, root)
        else:
            listing = list_pictures(place)
            found.pictures += listing.paths
            found.passed_over += listing.passed_over
    found.pictures = list(dict.fromkeys(found.pictures))
    return found


def _places(root: Path, path: str, entry: str) -> list[Path]:
    """Where an entry of data.yaml may be, the nearest to what it says first."""
    path, entry = path.replace("\\", "/"), entry.replace("\\", "/")
    bases = [root, Path(path)] if os.path.isabs(path) or path[1:2] == ":" else [root / path, root]
    parts = [part for part in entry.split("/") if part not in ("", ".")]
    tails = [parts[start:] for start in range(len(parts))]
    # exporters write "../train/images" for a folder inside root
    inside = [tail for tail in tails if tail[0] != ".."]
    exact = [base / entry for base in bases]
    return list(dict.fromkeys([*exact, *(base.joinpath(*tail) for tail in inside for base in bases)]))


def _by_name(root: Path, name: str) -> list[Path]:
    return [root / "images" / name, root / name / "images", root / name, root / f"{name}.txt"]


def _split_folders(root: Path) -> set[str]:
    inside = {path.name for path in root.glob("images/*") if path.is_dir()}
    return inside | {path.parent.name for path in root.glob("*/images") if path.is_dir()}


def _add_listed(found: YoloSplit, file: Path, root: Path) -> None:
    finder = PictureFinder([file.parent, root, root / "images"], root)
    for number, line in numbered_lines(file):
        picture = finder.find(line) if "\0" not in line else None
        if picture is not None and picture.path is not None:
            found.pictures.append(Path(picture.path))
        else:
            kind, reason = ("missing image", "no path") if picture is None else (picture.kind, picture.reason)
            found.faults.append(Fault(kind, str(file), f"line {number}: {reason}"))
