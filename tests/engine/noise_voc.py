"""A VOC folder with pictures of noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write_voc(root: Path, boxes: dict[str, Sequence[tuple[str, int, int, int, int]]], split: str = "train") -> Path:
    """A VOC folder with one 48x40 image for each id, holding (class, xmin, ymin, xmax, ymax)."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for image_id, rows in boxes.items():
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(root / "JPEGImages" / f"{image_id}.jpg")
        objects = "".join(
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for name, x1, y1, x2, y2 in rows
        )
        size = "<size><width>48</width><height>40</height><depth>3</depth></size>"
        text = f"<annotation><filename>{image_id}.jpg</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"{image_id}.xml").write_text(text)
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{image_id}\n" for image_id in boxes))
    return root
