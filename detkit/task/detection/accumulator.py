"""Accumulate detections over a split as packed columns, with R-CNN's cap over the whole set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

from detkit.core.structures import Detections
from detkit.metric.records import Predictions
from detkit.task.detection.set_cap import cap_over_set, watched_candidates

Part = tuple[Predictions, list[Tensor]]


class DetectionAccumulator:
    """The detections of the images of this process.

    candidates: of `watched_candidates`. per_image: the postprocess' `set_candidates`, where it has one.
    """

    def __init__(self, candidates: list[Tensor], per_image: int | None) -> None:
        self._candidates = candidates
        self._per_image = per_image
        self._images: list[int] = []
        self._found: list[Detections] = []

    def add(self, images: Sequence[int], found: Sequence[Detections]) -> None:
        """Take in the detections of some images, by their index in the split."""
        self._images += images
        self._found += found

    def part(self) -> Part:
        """The detections of this process, and the scores of its candidates."""
        return Predictions.from_detections(self._found, np.array(self._images, np.int64)), list(self._candidates)

    def merge(self, parts: Sequence[Part]) -> Predictions:
        """The detections of all parts, image by image."""
        found = Predictions.concatenate([predictions for predictions, _ in parts])
        candidates = [scores for _, seen in parts for scores in seen]
        if self._per_image is not None:
            found = cap_over_set(found, candidates, self._per_image)
        return found.select(np.argsort(found.image, kind="stable"))


@contextmanager
def accumulate_detections(detector: Any) -> Iterator[DetectionAccumulator]:
    """An accumulator for the block in which `detector` runs over a split."""
    with watched_candidates(detector) as candidates:
        yield DetectionAccumulator(candidates, getattr(getattr(detector, "postprocess", None), "set_candidates", None))
