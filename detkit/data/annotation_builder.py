"""Collect images and objects one by one, for the readers, and pack them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detkit.core.errors import UserError
from detkit.core.structures import Size
from detkit.core.suggest import among
from detkit.data.annotations import Annotations, Fault, PackedStrings
from detkit.data.class_names import OTHER_SPELLING


class RawObject(NamedTuple):
    """One object as a file has it: class name, box xyxy 0-based half-open, and what COCO and VOC add."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool = False
    area: float | None = None


class AnnotationBuilder:
    """Grows one `Annotations`; what cannot be used becomes a `Fault` and is left out."""

    def __init__(self, classes: Sequence[str], source: str) -> None:
        self.source = source
        self.classes = check_classes(classes, f"{source}: the list of class names")
        self.faults: list[Fault] = []
        self._notes: list[str] = []
        self._places: dict[str, None] = {}
        self._label_of = {name: label for label, name in enumerate(self.classes)}
        own = {name: OTHER_SPELLING[name] for name in self.classes if name in OTHER_SPELLING}
        self._respelled = {other: name for name, other in own.items() if other not in self._label_of}
        self._label_of |= {other: self._label_of[name] for other, name in self._respelled.items()}
        self._met: set[str] = set()  # other spellings
        self._paths: list[str] = []
        self._ids: dict[str, None] = {}
        self._sizes: list[Size] = []
        self._counts: list[int] = []
        self._boxes: list[tuple[float, float, float, float]] = []
        self._labels: list[int] = []
        self._difficult: list[bool] = []
        self._areas: list[float | None] = []
        self._left_out: Counter[str] = Counter()

    def fault(self, kind: str, where: object, message: str) -> None:
        """Record something wrong."""
        self.faults.append(Fault(kind, str(where), message))

    def note(self, sentence: str) -> None:
        """Record what is no fault but should be said; an empty sentence is none."""
        if sentence:
            self._notes.append(sentence)

    def looked_in(self, *places: object) -> None:
        """Record where annotations and pictures were looked for."""
        self._places.update(dict.fromkeys(map(str, places)))

    def add(self, *, path: object, image_id: str, size: Size, objects: Sequence[RawObject], where: object) -> None:
        """Add one image; `where` is the file its objects come from, named in faults."""
        if image_id in self._ids:
            self.fault("duplicate id", where, f"image {image_id} is listed twice; its first entry counts")
            return
        known = [item for item in objects if item.name in self._label_of]
        left_out = Counter(item.name for item in objects if item.name not in self._label_of)
        for name in sorted(left_out):
            self.fault("unknown class", where, f"class {name!r} is not in data.classes{among(name, self.classes)}")
        self._left_out.update(left_out)
        self._met |= {item.name for item in known} & self._respelled.keys()
        self._paths.append(str(path))
        self._ids[image_id] = None
        self._sizes.append(size if max(size) <= np.iinfo(np.int32).max else (0, 0))
        self._counts.append(len(known))
        for item in known:
            self._boxes.append(item.box)
            self._labels.append(self._label_of[item.name])
            self._difficult.append(item.difficult)
            self._areas.append(item.area)

    def build(self, category_ids: list[int | str | None] | None = None) -> Annotations:
        """The packed result."""
        self.note("; ".join(f"{other!r} is the class {self._respelled[other]!r}" for other in sorted(self._met)))
        with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and a fault of its box
            boxes = np.array(self._boxes, np.float64).astype(np.float32).reshape(-1, 4)
        has_areas = bool(self._areas) and None not in self._areas
        return Annotations(
            classes=self.classes,
            image_paths=PackedStrings.from_list(self._paths),
            image_ids=PackedStrings.from_list(list(self._ids)),
            sizes=np.array(self._sizes, np.int32).reshape(-1, 2),
            offsets=np.concatenate([[0], np.cumsum(self._counts, dtype=np.int64)]).astype(np.int64),
            boxes=boxes,
            labels=np.array(self._labels, np.int64),
            difficult=np.array(self._difficult, np.bool_),
            areas=np.array(self._areas, np.float64) if has_areas else None,
            category_ids=category_ids,
            source=self.source,
            faults=self.faults,
            left_out=dict(self._left_out),
            notes=self._notes,
            looked_in=list(self._places),
        )


def check_classes(classes: Sequence[str] | str, where: str = "data.classes") -> list[str]:
    """`classes` as a list of unique names, a single word as a list of one; raises UserError naming what repeats."""
    names = [classes] if isinstance(classes, str) else [str(name) for name in classes]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{where} repeats {', '.join(repeated)}")
    return names
