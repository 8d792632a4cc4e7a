"""Ground truth and predictions of a split as packed columns, which every metric takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.core.structures import Detections
from detkit.data.annotations import Annotations

FILLED_IN: Any = None  # the default of a column that `__post_init__` fills in


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The M objects of I images.

    image: int64 [M], 0..I-1. boxes: float64 [M, 4] xyxy pixels, half-open. labels: int64 [M].
    difficult: bool [M], objects that are neither asked for nor counted against a detector.
    crowd: bool [M], the difficult ones that stand for many objects (COCO iscrowd); a subset of `difficult`.
    area: float64 [M] pixels, what COCO's size ranges go by; None: the area of the box.
    image_ids: the name of each image, where known.
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    num_images: int
    difficult: NDArray[np.bool_] = FILLED_IN
    crowd: NDArray[np.bool_] = FILLED_IN
    area: NDArray[np.float64] = FILLED_IN
    image_ids: Sequence[str] | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        crowd = np.zeros(count, np.bool_) if self.crowd is None else np.asarray(self.crowd, np.bool_)
        difficult = np.zeros(count, np.bool_) if self.difficult is None else np.asarray(self.difficult, np.bool_)
        area = box_area(boxes) if self.area is None else np.asarray(self.area, np.float64)
        _set(self, image=np.asarray(self.image, np.int64), boxes=boxes, labels=np.asarray(self.labels, np.int64))
        _set(self, difficult=difficult | crowd, crowd=crowd, area=area)
        _check_lengths(self, count, "image", "boxes", "difficult", "crowd", "area")

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_annotations(cls, annotations: Annotations) -> GroundTruth:
        """Take the objects of a data set as annotated; if it has COCO's category ids, difficult means crowd."""
        boxes = annotations.boxes.astype(np.float64)
        is_coco = annotations.category_ids is not None
        return cls(
            image=annotations.image_of_object(),
            boxes=boxes,
            labels=annotations.labels,
            num_images=len(annotations),
            difficult=annotations.difficult,
            crowd=annotations.difficult & is_coco,
            area=box_area(boxes) if annotations.areas is None else annotations.areas,
            image_ids=list(annotations.image_ids),
        )


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The D detections of a split, in any order.

    image: int64 [D], an index as in `GroundTruth`. boxes: float64 [D, 4] xyxy pixels, half-open.
    scores: float64 [D], finite. labels: int64 [D].
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        _set(self, image=np.asarray(self.image, np.int64), boxes=np.asarray(self.boxes, np.float64).reshape(-1, 4))
        _set(self, scores=np.asarray(self.scores, np.float64), labels=np.asarray(self.labels, np.int64))
        _check_lengths(self, len(self.labels), "image", "boxes", "scores")
        if not np.isfinite(self.scores).all():
            raise ValueError("predictions have scores that are NaN or infinite")

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_detections(
        cls, detections: Iterable[Detections], images: Sequence[int] | NDArray[np.int64] | None = None
    ) -> Predictions:
        """Pack the detections of each image; `images` gives the index of each, by default 0, 1, 2, ..."""
        items = list(detections)
        indices = np.arange(len(items)) if images is None else np.asarray(images, np.int64)
        if len(indices) != len(items):
            raise ValueError(f"{len(items)} images of detections but {len(indices)} image indices")
        return cls(
            image=np.repeat(indices, [len(item) for item in items]),
            boxes=_concatenate([item.boxes.detach().double().cpu().numpy() for item in items]),
            scores=_concatenate([item.scores.detach().double().cpu().numpy() for item in items]),
            labels=_concatenate([item.labels.cpu().numpy() for item in items]),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Concatenate `parts`; metrics do not depend on their order as long as no image is in two parts."""
        columns = ("image", "boxes", "scores", "labels")
        return cls(**{name: _concatenate([getattr(part, name) for part in parts]) for name in columns})

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Predictions:
        """Select the detections at a mask or an index array."""
        return Predictions(
            image=self.image[index], boxes=self.boxes[index], scores=self.scores[index], labels=self.labels[index]
        )


def box_area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the areas, float64 [N], of boxes xyxy [N, 4]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _set(record: object, **columns: object) -> None:
    for name, column in columns.items():
        object.__setattr__(record, name, column)  # the dataclass is frozen


def _check_lengths(record: object, count: int, *names: str) -> None:
    for name in names:
        if len(getattr(record, name)) != count:
            raise ValueError(f"{name} has {len(getattr(record, name))} rows, labels has {count}")


def _concatenate(parts: Sequence[NDArray[np.generic]]) -> NDArray[Any]:
    return np.concatenate(parts) if len(parts) else np.zeros(0)
