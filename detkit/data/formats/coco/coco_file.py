"""Define the typed rows of a COCO json file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from detkit.core.structures import Size
from detkit.data.annotations import Fault
from detkit.data.formats.coco.coco_value import id_text


class CocoImage(NamedTuple):
    """An entry of images: its id as text, its file, and (height, width), 0, 0 where that is not declared."""

    id: str
    file_name: str
    size: Size


class CocoCategory(NamedTuple):
    """An entry of categories: its id as text and as the file has it, its name, and that of the one above it."""

    id: str
    number: int | str
    name: str
    above: str


class CocoObject(NamedTuple):
    """An entry of annotations, or of results.

    entry: its place in the list, from 0. bbox: four finite numbers as written; by COCO's rule left, top, width, height
    in pixels. outlined: whether there were none, and these are of the box around the segmentation. area: as declared,
    in square pixels; None where it is not.
    """

    entry: int
    image_id: str
    category_id: str
    bbox: tuple[float, float, float, float]
    outlined: bool
    crowd: bool
    area: float | None

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The box xyxy, 0-based and half-open, where the numbers follow COCO's rule."""
        x, y, width, height = self.bbox
        return x, y, x + width, y + height


@dataclass
class CocoFile:
    """What a file holds; categories are by ascending id. What could not be read is among the faults.

    broken: the ids of the images that are left out as their entries are faults. rows: what messages call the list that
    the objects are from.
    """

    path: Path
    rows: str = "annotations"
    images: list[CocoImage] = field(default_factory=list)
    categories: list[CocoCategory] = field(default_factory=list)
    objects: list[CocoObject] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def name(self, number: int, raw_id: object = None) -> str:
        """What a message calls an entry of the objects."""
        text = id_text(raw_id)
        return f"entry {number} of {self.rows}" + (f" (id {text})" if text is not None else "")

    def fault(self, kind: str, message: str) -> None:
        """Record something wrong in this file."""
        self.faults.append(Fault(kind, str(self.path), message))
