"""A small VOC folder, written anew for each test that asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

VocObject = tuple[str, tuple[float, float, float, float], bool]
MakeVoc = Callable[..., Path]


def write_voc_image(
    root: Path, image_id: str, objects: Sequence[VocObject], size: tuple[int, int] = (40, 60), suffix: str = ".png"
) -> None:
    """One picture of noise and its annotation; boxes are as in the file: 1-based, inclusive."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(image_id)).integers(0, 256, (*size, 3), dtype=np.uint8)
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


@pytest.fixture
def make_voc(tmp_path: Path) -> MakeVoc:
    """make_voc({id: objects}, split="train", root=...) writes images and the split file, and gives the root."""

    def make(
        images: dict[str, Sequence[VocObject]], split: str = "train", root: Path | None = None, **options: object
    ) -> Path:
        root = root or tmp_path / "voc"
        for image_id, objects in images.items():
            write_voc_image(root, image_id, objects, **options)  # type: ignore[arg-type]
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "JPEGImages").mkdir(exist_ok=True)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{image_id}\n" for image_id in images))
        return root

    return make
