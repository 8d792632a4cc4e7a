"""Check whether predictions fit the ground truth far better in another form of boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detkit.box_files.box_form import Form, WrittenBoxes, other_forms
from detkit.metric.records import GroundTruth, Predictions

_GAIN, _GOOD = 0.2, 0.5  # mean IoU: by how much another form must be better, and how good it must be
_MOST = 2000  # detections that are looked at, the best


def better_form(written: WrittenBoxes, form: Form, predictions: Predictions, ground_truth: GroundTruth) -> str | None:
    """Name the form of boxes that fits the ground truth far better than the one read; None if none does.

    The measure is the mean of each object's best IoU with a detection of its class. A form in which one box has a
    negative size is out, so a false alarm needs detections that are all in the wrong place and right by another rule.
    """
    chosen = np.argsort(-predictions.scores, kind="stable")[:_MOST]
    now = _mean_overlap(predictions.boxes[chosen], chosen, predictions, ground_truth)
    for name, boxes in other_forms(written, form).items():
        then = _mean_overlap(boxes[chosen], chosen, predictions, ground_truth)
        if then >= max(_GOOD, now + _GAIN):
            return f"its boxes fit the ground truth as {name} (mean IoU {then:.2f}), not as {form.name} ({now:.2f})"
    return None


def _mean_overlap(
    boxes: NDArray[np.float64], chosen: NDArray[np.int64], predictions: Predictions, ground_truth: GroundTruth
) -> float:
    """Average over the objects in images and of classes that have a detection; 0 if there is none."""
    found: dict[tuple[int, int], list[int]] = {}
    for place, index in enumerate(chosen):
        found.setdefault((int(predictions.image[index]), int(predictions.labels[index])), []).append(place)
    best = []
    for image, label, box in zip(ground_truth.image, ground_truth.labels, ground_truth.boxes, strict=True):
        places = found.get((int(image), int(label)))
        if places:
            best.append(float(_overlap(boxes[places], box).max()))
    return float(np.mean(best)) if best else 0.0


def _overlap(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute IoU [N] of boxes xyxy [N, 4] with one; 0 for those without area."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    common = np.maximum(sides, 0).prod(axis=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - common
    return np.where(union > 0, common / np.where(union > 0, union, 1), 0.0)
