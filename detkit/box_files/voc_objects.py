"""Read ground truth from PASCAL VOC's XML files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detkit.box_files.reference import ImageNames, Reference, numbered, picture_sizes
from detkit.core.errors import UserError
from detkit.data.formats.voc.voc import parse_voc
from detkit.metric.records import GroundTruth


def find_voc_files(folder: Path) -> list[Path]:
    """List the XML files of a VOC folder: those in Annotations, or in the folder itself; empty if it is none."""
    inner = folder / "Annotations"
    return sorted((inner if inner.is_dir() else folder).glob("*.xml"))


def read_voc_objects(folder: Path, images: Path | None = None) -> Reference:
    """Read the objects of every XML file of a folder, whatever split it is in; raises UserError naming what is broken.

    images: a folder of the pictures, for the sizes that the files do not give.
    """
    files = find_voc_files(folder)
    parsed = []
    for file in files:
        try:
            parsed.append(parse_voc(file))
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error}") from error
        for slip in parsed[-1].slips:
            if slip.kind != "inverted box":  # whose corners are in order now
                raise UserError(f"{file}: {slip.message}")
    rows = [(index, item) for index, voc in enumerate(parsed) for item in voc.objects]
    for index, item in rows:
        left, top, right, bottom = item.box
        if not np.isfinite(item.box).all() or right <= left or bottom <= top:
            raise UserError(f"{files[index]}: the box {list(item.box)} of {item.name} is empty or not finite")
    classes = sorted({item.name for _, item in rows})
    label_of = numbered(classes)
    names = ImageNames([file.stem for file in files])
    sizes = np.array([voc.size[::-1] for voc in parsed], np.float64)
    sizes[sizes == 0] = np.nan
    if images is not None and np.isnan(sizes).any():
        sizes = np.where(np.isnan(sizes), picture_sizes(names, images), sizes)
    return Reference(
        ground_truth=GroundTruth(
            image=np.array([index for index, _ in rows], np.int64),
            boxes=np.array([item.box for _, item in rows], np.float64).reshape(-1, 4),
            labels=np.array([label_of[item.name] for _, item in rows], np.int64),
            num_images=len(files),
            difficult=np.array([item.difficult for _, item in rows], np.bool_),
            image_ids=names.names,
        ),
        classes=classes,
        names=names,
        sizes=sizes,
    )
