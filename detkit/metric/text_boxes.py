"""Boxes in one text file for each image, the form of Object-Detection-Metrics and its successors, and of YOLO.

Lines are `name x y w h` for objects and `name score x y w h` for detections; a name may hold spaces. The four numbers
may be of another form; YOLO writes the score last.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from detkit.errors import UserError
from detkit.metric.box_form import check_scores, to_xyxy
from detkit.metric.records import GroundTruth, Predictions
from detkit.metric.reference import Reference, by_file_name, find_indices, numbered
from detkit.text_file import numbered_lines


def read_text_objects(folder: Path, inclusive: bool, form: str | None = None, images: Path | None = None) -> Reference:
    """The objects of a folder; each file is an image, empty files too. images: the folder of their pictures."""
    files = _text_files(folder, "name x y w h")
    rows = [(index, *row) for index, file in enumerate(files) for row in _read_lines(file, 4, "name x y w h")]
    stray = next((row for row in rows if re.fullmatch(r"(.* )?\d*\.\d+", row[1])), None)
    if stray is not None:
        raise UserError(f"{folder} {stray[3]}: class {stray[1]!r} ends in a score; these are detections")
    classes = sorted({name for _, name, _, _ in rows})
    label_of = numbered(classes)
    sizes = None if images is None else _sizes(files, images)
    image = np.array([row[0] for row in rows], np.int64)
    ground_truth = GroundTruth(
        image=image,
        boxes=to_xyxy(
            np.array([row[2][:4] for row in rows], np.float64), form, path=folder, places=[row[3] for row in rows],
            key="ground_truth_boxes", sizes=None if sizes is None else sizes[image], inclusive=inclusive,
        ),
        labels=np.array([label_of[row[1]] for row in rows], np.int64),
        difficult=np.array([len(row[2]) == 5 for row in rows], np.bool_),
        num_images=len(files),
        image_ids=[file.stem for file in files],
    )  # fmt: skip
    return Reference(
        ground_truth=ground_truth, classes=classes, file_of=by_file_name([file.stem for file in files]), sizes=sizes
    )


def read_text_detections(
    folder: Path, reference: Reference, inclusive: bool, form: str | None = None
) -> tuple[Predictions, list[str]]:
    """Detections of a folder whose files are named as those of the images, and the class names by label."""
    files = _text_files(folder, "name score x y w h")
    image = dict(
        zip(files, find_indices([file.stem for file in files], reference.file_of, "file", folder), strict=True)
    )
    line = "name x y w h score" if form == "yolo" else "name score x y w h"
    rows = [(image[file], *row) for file in files for row in _read_lines(file, 5, line)]
    classes = list(reference.classes)
    if not reference.category_of:  # text files do not list their classes, so one may be without any object
        classes += sorted({row[1] for row in rows} - set(classes))
    named = {row[1] for row in rows}
    if named and reference.classes and not named & set(reference.classes):
        raise UserError(
            f"{folder}: none of its classes ({', '.join(sorted(named)[:5])}) is in the ground truth, "
            f"which has {', '.join(reference.classes[:5])}"
        )
    labels = find_indices([row[1] for row in rows], numbered(classes), "class", folder)
    numbers = np.array([row[2] for row in rows], np.float64).reshape(-1, 5)
    boxes, scores = (numbers[:, :4], numbers[:, 4]) if form == "yolo" else (numbers[:, 1:], numbers[:, 0])
    places, index = [row[3] for row in rows], np.array([row[0] for row in rows], np.int64)
    xyxy = to_xyxy(
        boxes, form, path=folder, places=places, key="boxes", sizes=reference.sizes_of(index), inclusive=inclusive
    )
    check_scores(scores, folder, places)
    return Predictions(image=index, boxes=xyxy, scores=scores, labels=labels), classes


def _text_files(folder: Path, form: str) -> list[Path]:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise UserError(f"{folder} has no .txt files with lines `{form}`")
    return files


def _read_lines(file: Path, count: int, form: str) -> list[tuple[str, list[float], str]]:
    """(name, numbers, place) of each line; Cartucho's mark `difficult` adds a number."""
    rows = []
    for number, line in numbered_lines(file):
        words = line.split()
        marked = count == 4 and words[-1] == "difficult"
        words = words[:-1] if marked else words
        try:
            numbers = [float(word) for word in words[-count:]]
        except ValueError:
            numbers = []
        if len(numbers) != count or len(words) <= count or not np.isfinite(numbers).all():
            raise UserError(f"{file} line {number} is {line!r}, must be `{form}`")
        rows.append((" ".join(words[:-count]), numbers + [1.0] * marked, f"{file.name} line {number}"))
    return rows


def _sizes(files: list[Path], images: Path) -> NDArray[np.float64]:
    """float64 [I, 2]: width and height of the picture of each text file, the only one of its stem in `images`."""
    if not images.is_dir():
        raise UserError(f"images={images} is no folder")
    pictures: dict[str, list[Path]] = {}
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in (".txt", ".xml", ".json"):
            pictures.setdefault(path.stem, []).append(path)
    sizes = []
    for file in files:
        found = pictures.get(file.stem, [])
        if len(found) != 1:
            raise UserError(f"images={images} has {len(found) or 'no'} pictures {file.stem}.*, of {file}")
        try:
            with Image.open(found[0]) as picture:
                sizes.append(picture.size)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise UserError(f"{found[0]} cannot be read as a picture: {error}") from error
    return np.array(sizes, np.float64)
