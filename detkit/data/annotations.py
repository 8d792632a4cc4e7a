"""Store the annotations of a split, packed in a few arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Fault(NamedTuple):
    """One thing wrong with a data set: its kind ("missing image"), where it is (a file, an id), and a sentence."""

    kind: str
    where: str
    message: str


class PackedStrings:
    """A read-only list of strings as one byte buffer and N+1 offsets.

    A list of Python strings is copied page by page into every loader worker, since reading an object writes its
    reference count; two arrays stay shared.
    """

    def __init__(self, buffer: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.buffer = buffer
        self.offsets = offsets

    @classmethod
    def from_list(cls, strings: Sequence[str]) -> PackedStrings:
        """Pack `strings`; file names that are not valid Unicode survive the round trip."""
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(item) for item in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        start, end = self.offsets[index], self.offsets[index + 1]
        return self.buffer[start:end].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


class Objects(NamedTuple):
    """The objects of one image: views of the packed arrays."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


@dataclass
class Annotations:
    """N images and their M objects.

    classes: the name of label 0, 1, ... C-1.
    image_paths, image_ids: one per image; ids are unique.
    sizes: int32 [N, 2] (height, width) as the annotation declares it; 0 where it does not.
    offsets: int64 [N+1]; the objects of image i are offsets[i]:offsets[i+1] of the arrays below.
    boxes: float32 [M, 4] xyxy pixels, 0-based, half-open, as annotated: not clipped, maybe degenerate.
    labels: int64 [M]. difficult: bool [M], VOC difficult or COCO crowd.
    areas: float64 [M] pixels, where the format declares them (COCO: of the mask); None: those of the boxes.
    category_ids: the number of each class in the COCO file, to write results back, None for one that it lacks
        (`detkit.data.category_ids`); None elsewhere.
    source: where this came from, for messages. faults: what the reader found wrong, and left out or put right.
    left_out: how many objects have a class name that is not in `classes`, by that name.
    notes: sentences on what is no fault. looked_in: the files and folders that were looked in, for messages.
    """

    classes: list[str]
    image_paths: PackedStrings
    image_ids: PackedStrings
    sizes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    source: str
    areas: NDArray[np.float64] | None = None
    category_ids: list[int | str | None] | None = None
    faults: list[Fault] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    looked_in: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.image_ids)

    def objects(self, index: int) -> Objects:
        """The boxes, labels and difficult flags of image `index`."""
        start, end = self.offsets[index], self.offsets[index + 1]
        return Objects(self.boxes[start:end], self.labels[start:end], self.difficult[start:end])

    def image_of_object(self) -> NDArray[np.int64]:
        """int64 [M]: the index of the image that each object is in."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> Annotations:
        """The images at `indices`, in that order."""
        chosen = np.asarray(indices, np.int64).reshape(-1)
        counts = np.diff(self.offsets)[chosen]
        offsets = _offsets(counts)
        # the object rows of image k are start[k] + 0, 1, ... counts[k]-1
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], counts)
        return replace(
            self,
            image_paths=PackedStrings.from_list([self.image_paths[int(i)] for i in chosen]),
            image_ids=PackedStrings.from_list([self.image_ids[int(i)] for i in chosen]),
            sizes=self.sizes[chosen],
            offsets=offsets,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            difficult=self.difficult[rows],
            areas=None if self.areas is None else self.areas[rows],
        )

    @staticmethod
    def union(parts: Sequence[Annotations]) -> Annotations:
        """The images of all `parts`, which have the same classes and no image id in common."""
        first = parts[0]
        if any(part.classes != first.classes for part in parts):
            raise ValueError(f"union of different class lists: {[part.source for part in parts]}")
        ids = [image_id for part in parts for image_id in part.image_ids]
        if len(set(ids)) != len(ids):
            raise ValueError(f"union repeats image ids: {[part.source for part in parts]}")
        areas = [part.areas for part in parts if part.areas is not None]
        return replace(
            first,
            image_paths=PackedStrings.from_list([path for part in parts for path in part.image_paths]),
            image_ids=PackedStrings.from_list(ids),
            sizes=np.concatenate([part.sizes for part in parts]),
            offsets=_offsets(np.concatenate([np.diff(part.offsets) for part in parts])),
            boxes=np.concatenate([part.boxes for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            difficult=np.concatenate([part.difficult for part in parts]),
            areas=np.concatenate(areas) if len(areas) == len(parts) else None,
            source=" + ".join(part.source for part in parts),
            faults=[fault for part in parts for fault in part.faults],
            left_out=dict(sum((Counter(part.left_out) for part in parts), Counter())),
            notes=[note for part in parts for note in part.notes],
            looked_in=list(dict.fromkeys(place for part in parts for place in part.looked_in)),
        )


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
