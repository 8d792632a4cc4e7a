"""Write folders in PASCAL VOC layout: the inverse of `detkit.data.formats.voc.voc`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from detkit.core.structures import Size
from detkit.data.annotations import Objects


def voc_xml(filename: str, size: Size, objects: Objects, classes: Sequence[str]) -> str:
    """One annotation file; boxes are 0-based and half-open here, 1-based and inclusive in the text."""
    root = ElementTree.Element("annotation")
    _add(root, filename=filename)
    _add(ElementTree.SubElement(root, "size"), width=size[1], height=size[0], depth=3)
    for box, label, difficult in zip(*objects, strict=True):
        element = ElementTree.SubElement(root, "object")
        _add(element, name=classes[int(label)], difficult=int(difficult))
        _add(
            ElementTree.SubElement(element, "bndbox"),
            xmin=_number(box[0] + 1),
            ymin=_number(box[1] + 1),
            xmax=_number(box[2]),
            ymax=_number(box[3]),
        )
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


class VocWriter:
    """Grows one VOC folder; whoever calls it puts the picture at the path that `add` gives."""

    def __init__(self, root: Path, classes: Sequence[str]) -> None:
        self.root = root
        self.classes = list(classes)
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "classes.txt").write_text("".join(f"{name}\n" for name in self.classes), encoding="utf-8")

    def add(self, image_id: str, suffix: str, size: Size, objects: Objects) -> Path:
        """Write the annotation of one image; returns where its file belongs. `suffix` is that of the image file."""
        text = voc_xml(image_id + suffix, size, objects, self.classes)
        (self.root / "Annotations" / f"{image_id}.xml").write_text(text, encoding="utf-8")
        return self.root / "JPEGImages" / (image_id + suffix)

    def add_split(self, name: str, image_ids: Sequence[str]) -> None:
        """Write the list of a split."""
        text = "".join(f"{image_id}\n" for image_id in image_ids)
        (self.root / "ImageSets" / "Main" / f"{name}.txt").write_text(text, encoding="utf-8")


def _add(parent: ElementTree.Element, **values: object) -> None:
    for key, value in values.items():
        ElementTree.SubElement(parent, key).text = str(value)


def _number(value: np.float32 | NDArray[np.float32]) -> str:
    """Whole numbers without a point, others with the fewest digits that give the same float32."""
    return str(int(value)) if value == int(value) else str(value)
