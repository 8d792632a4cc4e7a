"""A VOC folder with pictures of noise."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

# class, box as in the file (1-based, inclusive), difficult
VocObject = tuple[str, tuple[float, float, float, float], bool]


def write_voc(
    root: Path,
    images: Mapping[str, Sequence[VocObject]],
    split: str = "train",
    *,
    size: tuple[int, int] = (40, 60),
    suffix: str = ".png",
) -> Path:
    """Write a picture of `size` (H, W) and an annotation for each id, and the split that lists them; gives `root`."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for image_id, objects in images.items():
        pixels = np.random.default_rng(zlib.crc32(image_id.encode())).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{image_id}{suffix}")
        rows = [
            f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox>"
            f"<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>"
            f"</bndbox><part><name>head</name></part></object>"
            for name, box, difficult in objects
        ]
        (root / "Annotations" / f"{image_id}.xml").write_text(
            f"<annotation><filename>{image_id}{suffix}</filename>"
            f"<size><width>{size[1]}</width><height>{size[0]}</height></size>{''.join(rows)}</annotation>"
        )
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{image_id}\n" for image_id in images))
    return root
