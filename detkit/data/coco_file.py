"""What a COCO json file holds, as typed rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from detkit.data.annotations import Fault
from detkit.types import Size


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
    """An entry of annotations: its place in the list, box xyxy in pixels, crowd, area in square pixels."""

    entry: int
    image_id: str
    category_id: str
    box: tuple[float, float, float, float]
    crowd: bool
    area: float


@dataclass
class CocoFile:
    """What a file holds; categories are by ascending id. What could not be read is among the faults.

    broken: the ids of the images that are left out as their entries are faults.
    """

    path: Path
    images: list[CocoImage] = field(default_factory=list)
    categories: list[CocoCategory] = field(default_factory=list)
    objects: list[CocoObject] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def fault(self, kind: str, message: str) -> None:
        """Record something wrong in this file."""
        self.faults.append(Fault(kind, str(self.path), message))
