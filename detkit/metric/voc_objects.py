"""Ground truth in PASCAL VOC's XML files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from detkit.data.voc import parse_voc
from detkit.errors import UserError
from detkit.metric.records import GroundTruth
from detkit.metric.reference import ImageNames, Reference, numbered


def find_voc_files(folder: Path) -> list[Path]:
    """The XML files of a VOC folder: those in Annotations, or in the folder itself; empty where it is none."""
    inner = folder / "Annotations"
    return sorted((inner if inner.is_dir() else folder).glob("*.xml"))


def read_voc_objects(folder: Path) -> Reference:
    """The objects of every XML file of a folder, whatever split it is in; raises UserError naming what is broken."""
    files = find_voc_files(folder)
    parsed = []
    for file in files:
        try:
            parsed.append(parse_voc(file))
        except UserError:
            raise
        except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
            raise UserError(f"{file} cannot be read: {error}") from error
        if parsed[-1].bad:
            raise UserError(f"{file}: {parsed[-1].bad[0]}")
    rows = [(index, item) for index, voc in enumerate(parsed) for item in voc.objects]
    for index, item in rows:
        left, top, right, bottom = item.box
        if not np.isfinite(item.box).all() or right <= left or bottom <= top:
            raise UserError(f"{files[index]}: the box {list(item.box)} of {item.name} is empty or not finite")
    classes = sorted({item.name for _, item in rows})
    label_of = numbered(classes)
    heights = np.array([voc.size for voc in parsed], np.float64).reshape(-1, 2)
    return Reference(
        ground_truth=GroundTruth(
            image=np.array([index for index, _ in rows], np.int64),
            boxes=np.array([item.box for _, item in rows], np.float64).reshape(-1, 4),
            labels=np.array([label_of[item.name] for _, item in rows], np.int64),
            num_images=len(files),
            difficult=np.array([item.difficult for _, item in rows], np.bool_),
            image_ids=[file.stem for file in files],
        ),
        classes=classes,
        names=ImageNames([file.stem for file in files]),
        sizes=np.where(heights > 0, heights, np.nan)[:, ::-1],
    )
