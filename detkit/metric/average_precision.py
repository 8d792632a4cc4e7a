"""Average precision: from the outcomes of one class by score to a curve, and to one number.

An integrator takes recall and precision after each counted detection (float64 [K], recall never falling) and returns
the average precision, 0 for K = 0. K counts true and false positives; ignored detections are left out before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detkit.metric.match import EVERY_AREA, IGNORED, TRUE_POSITIVE, Grouped, Matched, Matcher, group
from detkit.metric.records import GroundTruth, Predictions

Integrator = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


def area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Integrate the monotone envelope of the curve (PASCAL VOC 2010 and later)."""
    return float(np.diff(recall, prepend=0.0) @ falling_envelope(precision))


def eleven_point(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Average the best precision at recall >= 0, 0.1, ..., 1, each decided exactly (PASCAL VOC 2007).

    Recalls are fractions of far fewer than 1e9 objects, so lowering each level by 1e-10 admits those that equal it
    (3 of 10, a hair below the double 3 * 0.1) and no other.
    """
    return _mean_at(np.linspace(0, 1, 11) - 1e-10, recall, precision)


def eleven_point_float(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Average as `eleven_point`, but compare doubles, as some tools do: recall 3/10, 6/10, 7/10 miss their level."""
    return _mean_at(np.linspace(0, 1, 11), recall, precision)


def coco_101_point(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Average the best precision at recall >= 0, 0.01, ..., 1, compared as doubles (COCO)."""
    return _mean_at(np.linspace(0, 1, 101), recall, precision)


def falling_envelope(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the best precision at this recall or beyond: float64 [K]."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _mean_at(levels: NDArray[np.float64], recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    best = np.append(falling_envelope(precision), 0.0)  # levels beyond the last recall find the 0
    return float(best[np.searchsorted(recall, levels, side="left")].mean())


class Curve(NamedTuple):
    """The precision-recall curve of one class: its values after each counted detection, by descending score.

    recall, precision, scores: float64 [K]. num_objects: the objects to be found; recall is NaN where there are none.
    """

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]
    num_objects: int

    def best_f1(self) -> tuple[float, float, float, float]:
        """Return the highest F1 of any score threshold, that threshold, its precision and its recall; NaN if none."""
        last_of_tie = np.append(np.diff(self.scores) != 0, True)[: len(self.scores)]  # a threshold keeps equal scores
        recall, precision = self.recall[last_of_tie], self.precision[last_of_tie]
        if len(recall) == 0 or self.num_objects == 0:
            return np.nan, np.nan, np.nan, np.nan
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(f1.argmax())
        return float(f1[best]), float(self.scores[last_of_tie][best]), float(precision[best]), float(recall[best])


def curves(grouped: Grouped, matched: Matched, threshold: int = 0) -> list[Curve]:
    """Compute the curve of each class at the IoU threshold of that index."""
    starts = np.searchsorted(grouped.labels, np.arange(grouped.num_classes + 1))
    return [_curve(grouped, matched, threshold, label, starts) for label in range(grouped.num_classes)]


def _curve(grouped: Grouped, matched: Matched, threshold: int, label: int, starts: NDArray[np.int64]) -> Curve:
    rows = grouped.by_score[starts[label] : starts[label + 1]]
    outcome = matched.outcome[threshold, rows]
    counted = outcome != IGNORED
    true = np.cumsum(outcome[counted] == TRUE_POSITIVE)
    num_objects = int(matched.num_objects[label])
    recall = true / num_objects if num_objects else np.full(len(true), np.nan)
    return Curve(recall, true / np.arange(1, len(true) + 1), grouped.scores[rows[counted]], num_objects)


class Scores(NamedTuple):
    """AP and recall by threshold and class: float64 [T, C], NaN without objects; recall of all counted detections."""

    ap: NDArray[np.float64]
    recall: NDArray[np.float64]


def integrate(grouped: Grouped, matched: Matched, integrator: Integrator) -> Scores:
    """Compute average precision and final recall of each class at each IoU threshold of `matched`."""
    shape = (len(matched.outcome), grouped.num_classes)
    ap, recall = np.full(shape, np.nan), np.full(shape, np.nan)
    for t in range(shape[0]):
        for label, curve in enumerate(curves(grouped, matched, t)):
            if curve.num_objects:
                ap[t, label] = integrator(curve.recall, curve.precision)
                recall[t, label] = curve.recall[-1] if len(curve.recall) else 0.0
    return Scores(ap, recall)


def average_precision(
    predictions: Predictions,
    ground_truth: GroundTruth,
    num_classes: int,
    *,
    matcher: Matcher,
    integrator: Integrator,
    iou_thresholds: Sequence[float] = (0.5,),
    max_dets: int | None = None,
    area_range: tuple[float, float] = EVERY_AREA,
) -> Scores:
    """Compute AP and recall, float64 [T, C] each, by any matcher and any integrator.

    VOC2007 is (voc_argmax, eleven_point), VOC2010 (voc_argmax, area), COCO (coco_greedy, coco_101_point, max_dets=100).
    """
    grouped = group(predictions, ground_truth, num_classes)
    matched = matcher(grouped, iou_thresholds, max_dets=max_dets, area_range=area_range)
    return integrate(grouped, matched, integrator)
