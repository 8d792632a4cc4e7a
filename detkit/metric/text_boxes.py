"""Boxes in one text file for each image, the form of Object-Detection-Metrics and its successors.

Lines are `name x y w h` for objects and `name score x y w h` for detections, in pixels; a name may hold spaces.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detkit.errors import UserError
from detkit.metric.records import GroundTruth, Predictions
from detkit.metric.reference import Reference, find_indices, from_xywh, numbered


def read_text_objects(folder: Path, inclusive: bool) -> Reference:
    """The objects of a folder; each file is an image, empty files too."""
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise UserError(f"{folder} has no .txt files with lines `name x y w h`")
    rows = [(index, *row) for index, file in enumerate(files) for row in _read_lines(file, 4, "name x y w h")]
    classes = sorted({name for _, name, _ in rows})
    label_of = numbered(classes)
    ground_truth = GroundTruth(
        image=np.array([index for index, _, _ in rows], np.int64),
        boxes=from_xywh(np.array([numbers for _, _, numbers in rows]), inclusive=inclusive),
        labels=np.array([label_of[name] for _, name, _ in rows], np.int64),
        num_images=len(files),
        image_ids=[file.stem for file in files],
    )
    return Reference(ground_truth=ground_truth, classes=classes, file_of=numbered([file.stem for file in files]))


def read_text_detections(folder: Path, reference: Reference, inclusive: bool) -> tuple[Predictions, list[str]]:
    """Detections of a folder whose files are named as those of the images, and the class names by label."""
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise UserError(f"{folder} has no .txt files with lines `name score x y w h`")
    if len(reference.file_of) != reference.ground_truth.num_images:
        raise UserError(f"{folder}: two images of the ground truth have one file name; give predictions as COCO json")
    image = dict(
        zip(files, find_indices([file.stem for file in files], reference.file_of, "file", folder), strict=True)
    )
    rows = [(image[file], *row) for file in files for row in _read_lines(file, 5, "name score x y w h")]
    classes = list(reference.classes)
    if not reference.category_of:  # text files do not list their classes, so one may be without any object
        classes += sorted({name for _, name, _ in rows} - set(classes))
    label_of = numbered(classes)
    predictions = Predictions(
        image=np.array([index for index, _, _ in rows], np.int64),
        boxes=from_xywh(np.array([numbers[1:] for _, _, numbers in rows]), inclusive=inclusive),
        scores=np.array([numbers[0] for _, _, numbers in rows], np.float64),
        labels=find_indices([name for _, name, _ in rows], label_of, "class", folder),
    )
    return predictions, classes


def _read_lines(file: Path, count: int, form: str) -> list[tuple[str, list[float]]]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            numbers = [float(word) for word in words[-count:]]
        except ValueError:
            numbers = []
        if len(numbers) != count or len(words) <= count or not np.isfinite(numbers).all():
            raise UserError(f"{file} line {number} is {line!r}, must be `{form}`")
        rows.append((" ".join(words[:-count]), numbers))
    return rows
