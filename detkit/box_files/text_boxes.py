"""Read boxes from one text file per image, the format of Object-Detection-Metrics and its successors.

Lines are `name` and four numbers for objects, `name score` and four numbers for detections; a name may hold spaces. The
meaning of the numbers is given by a `Form`; of YOLO, `name` is the number of the class, and the score comes last.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from detkit.box_files.box_form import Form, WrittenBoxes, refuse_scores, to_xyxy
from detkit.box_files.reference import ImageNames, Reference, find_indices, numbered, picture_sizes, with_other_classes
from detkit.core.errors import UserError
from detkit.core.text_file import numbered_lines
from detkit.metric.records import GroundTruth, Predictions

LETTERS = {"xywh": "x y w h", "xyxy": "left top right bottom", "cxcywh": "cx cy w h", "yolo": "cx cy w h"}


class _Row(NamedTuple):
    image: int
    where: str  # "FILE line N"
    name: str
    score: float
    box: list[float]
    difficult: bool


def read_text_objects(folder: Path, form: Form, images: Path | None = None) -> Reference:
    """Read the objects of a folder; each file is an image, empty files too. A line may end in the word `difficult`.

    images: a folder of the pictures, for their sizes.
    """
    wanted = f"name {LETTERS[form.name]}"
    files = _files(folder, wanted)
    rows = [row for index, file in enumerate(files) for row in _read_rows(file, index, wanted, objects=True)]
    _refuse_predictions(rows, folder)
    classes = sorted({row.name for row in rows})
    label_of = numbered(classes)
    names = ImageNames([_image_name(file, folder) for file in files])
    sizes = np.full((len(files), 2), np.nan) if images is None else picture_sizes(names, images)
    ground_truth = GroundTruth(
        image=np.array([row.image for row in rows], np.int64),
        boxes=to_xyxy(_written(rows, sizes), form),
        labels=np.array([label_of[row.name] for row in rows], np.int64),
        num_images=len(files),
        difficult=np.array([row.difficult for row in rows], np.bool_),
        image_ids=names.names,
    )
    return Reference(ground_truth=ground_truth, classes=classes, names=names, sizes=sizes)


def read_text_detections(folder: Path, reference: Reference, form: Form) -> tuple[Predictions, list[str], WrittenBoxes]:
    """Read the detections of a folder whose files are named as the images, and the class names by label."""
    wanted = "class cx cy w h score" if form.name == "yolo" else f"name score {LETTERS[form.name]}"
    files = _files(folder, wanted)
    taken: dict[int, Path] = {}
    for file in files:
        index = reference.names.find(_image_name(file, folder), folder)
        if index in taken:
            raise UserError(f"{taken[index]} and {file} are of one image of the ground truth")
        taken[index] = file
    rows = [
        row
        for index, file in taken.items()
        for row in _read_rows(file, index, wanted, objects=False, score_last=form.name == "yolo")
    ]
    classes = with_other_classes(reference.classes, {row.name for row in rows}, folder)
    label_of = numbered(classes)
    written = _written(rows, reference.sizes)
    boxes = to_xyxy(written, form)
    scores = np.array([row.score for row in rows], np.float64)
    refuse_scores(scores, written.name)
    predictions = Predictions(
        image=np.array([row.image for row in rows], np.int64),
        boxes=boxes,
        scores=scores,
        labels=find_indices([row.name for row in rows], label_of, "class", folder),
    )
    return predictions, classes, written


def _files(folder: Path, wanted: str) -> list[Path]:
    files = sorted(path for path in folder.rglob("*.txt") if path.is_file())
    if not files:
        raise UserError(f"{folder} has no .txt files with lines `{wanted}`")
    return files


def _image_name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix().removesuffix(".txt")


def _written(rows: list[_Row], sizes: np.ndarray) -> WrittenBoxes:
    return WrittenBoxes(
        numbers=np.array([row.box for row in rows], np.float64).reshape(-1, 4),
        sizes=sizes[np.array([row.image for row in rows], np.int64)],
        name=lambda index: rows[index].where,
    )


def _read_rows(file: Path, image: int, wanted: str, *, objects: bool, score_last: bool = False) -> list[_Row]:
    count = 4 if objects else 5
    rows = []
    for number, line in numbered_lines(file):
        words = line.split()
        difficult = objects and words[-1] == "difficult" and len(words) > count + 1
        words = words[:-1] if difficult else words
        try:
            numbers = [float(word) for word in words[-count:]]
        except ValueError:
            numbers = []
        if len(numbers) != count or len(words) <= count or not np.isfinite(numbers).all():
            raise UserError(f"{file} line {number} is {line!r}, must be `{wanted}`")
        name, where = " ".join(words[:-count]), f"{file} line {number}"
        score = 1.0 if objects else numbers[-1] if score_last else numbers[0]
        box = numbers if objects else numbers[:4] if score_last else numbers[1:]
        rows.append(_Row(image, where, name, score, box, difficult))
    return rows


def _refuse_predictions(rows: list[_Row], folder: Path) -> None:
    """Raise UserError if every line has one number more than an object: a score, before or after the box."""

    def is_number(word: str) -> bool:
        try:
            return bool(np.isfinite(float(word)))
        except ValueError:
            return False

    names = [row.name.split() for row in rows]
    if rows and all(len(words) > 1 and "." in words[-1] and is_number(words[-1]) for words in names):
        raise UserError(
            f"{folder} is no ground truth: {rows[0].where} has five numbers, as predictions have; "
            "are predictions= and ground_truth= exchanged?"
        )
