"""Select the ground truth that a detector is measured on."""

from __future__ import annotations

from dataclasses import replace

from detkit.data.annotations import Annotations
from detkit.metric.records import GroundTruth


def ground_truth_of(annotations: Annotations) -> GroundTruth:
    """The objects to be found: as annotated, without boxes that have no inside, which nothing could match."""
    truth = GroundTruth.from_annotations(annotations)
    x1, y1, x2, y2 = truth.boxes.T
    keep = (x2 > x1) & (y2 > y1)
    columns = ("image", "boxes", "labels", "difficult", "crowd", "area")
    return replace(truth, **{name: getattr(truth, name)[keep] for name in columns})
