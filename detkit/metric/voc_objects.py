"""Ground truth from a VOC folder, or a folder of VOC annotation files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detkit.data.voc import parse_voc
from detkit.errors import UserError
from detkit.metric.records import GroundTruth
from detkit.metric.reference import Reference, by_file_name, numbered


def find_voc(folder: Path) -> Path | None:
    """The folder of VOC annotation files that `folder` is or holds as Annotations; None where it is no VOC folder."""
    for place in (folder / "Annotations", folder):
        if place.is_dir() and any(place.glob("*.xml")):
            return place
    return None


def read_voc_objects(folder: Path) -> Reference:
    """The objects of every annotation file of a folder, by name of the file; raises UserError naming a bad file."""
    files = sorted(folder.glob("*.xml"))
    parsed = []
    for file in files:
        try:
            parsed.append(parse_voc(file))
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error}") from error
        for slip in parsed[-1].slips:
            if slip.kind != "inverted box":  # whose corners are in order now
                raise UserError(f"{file}: {slip.message}")
    rows = [(index, *item[:3]) for index, content in enumerate(parsed) for item in content.objects]
    for index, name, box, _ in rows:
        if box[2] <= box[0] or box[3] <= box[1]:
            raise UserError(f"{files[index]}: the box of {name!r} has no size: xmin, ymin, xmax, ymax {box}")
    classes = sorted({row[1] for row in rows})
    label_of, stems = numbered(classes), [file.stem for file in files]
    sizes = np.array([content.size[::-1] for content in parsed], np.float64).reshape(-1, 2)
    sizes[sizes <= 0] = np.nan
    ground_truth = GroundTruth(
        image=np.array([row[0] for row in rows], np.int64),
        boxes=np.array([row[2] for row in rows], np.float64),
        labels=np.array([label_of[row[1]] for row in rows], np.int64),
        difficult=np.array([row[3] for row in rows], np.bool_),
        num_images=len(files),
        image_ids=stems,
    )
    return Reference(
        ground_truth=ground_truth, classes=classes, file_of=by_file_name(stems), image_of=numbered(stems), sizes=sizes
    )
