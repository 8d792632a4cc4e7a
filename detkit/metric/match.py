"""Match detections to objects, by the rule of PASCAL VOC or of COCO.

Symbols: D detections, M objects, I images, C classes, G (class, image) groups with detections, T IoU thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detkit.core.jit import jit
from detkit.metric.records import GroundTruth, Predictions, box_area

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2

EVERY_AREA = (-float("inf"), float("inf"))


class Grouped(NamedTuple):
    """Detections and objects sorted by class, then image; detections of a group by descending score, ties as they came.

    detections, objects: int64 [D], [M], the row of the input that each sorted row was.
    boxes: float64 [D, 4]. scores: float64 [D]. labels: int64 [D]. rank: int64 [D], 0 for the first of its group.
    gt_boxes: float64 [M, 4]. gt_labels: int64 [M]. difficult, crowd: bool [M]. area: float64 [M].
    spans: int64 [G, 4], detections [d0, d1) and objects [g0, g1) of each group.
    by_score: int64 [D], the sorted rows class by class in descending score, ties in the order of images.
    """

    num_classes: int
    detections: NDArray[np.int64]
    objects: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    rank: NDArray[np.int64]
    gt_boxes: NDArray[np.float64]
    gt_labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    spans: NDArray[np.int64]
    by_score: NDArray[np.int64]


def group(predictions: Predictions, ground_truth: GroundTruth, num_classes: int) -> Grouped:
    """Sort detections and objects once for all matchers; raises ValueError on a label or image index out of range."""
    for name, record in (("predictions", predictions), ("ground truth", ground_truth)):
        _check_range(f"{name} labels", record.labels, num_classes)
        _check_range(f"{name} image indices", record.image, ground_truth.num_images)
    key = predictions.labels * ground_truth.num_images + predictions.image
    gt_key = ground_truth.labels * ground_truth.num_images + ground_truth.image
    detections = np.lexsort((-predictions.scores, key))
    objects = np.argsort(gt_key, kind="stable")
    key, gt_key = key[detections], gt_key[objects]
    start = np.flatnonzero(np.diff(key, prepend=-1))
    end = np.append(start[1:], len(key)).astype(np.int64)[: len(start)]
    scores, labels = predictions.scores[detections], predictions.labels[detections]
    return Grouped(
        num_classes=num_classes,
        detections=detections,
        objects=objects,
        boxes=predictions.boxes[detections],
        scores=scores,
        labels=labels,
        rank=np.arange(len(key)) - np.repeat(start, end - start),
        gt_boxes=ground_truth.boxes[objects],
        gt_labels=ground_truth.labels[objects],
        difficult=ground_truth.difficult[objects],
        crowd=ground_truth.crowd[objects],
        area=ground_truth.area[objects],
        spans=np.stack(
            [start, end, np.searchsorted(gt_key, key[start], "left"), np.searchsorted(gt_key, key[start], "right")],
            axis=1,
        ).astype(np.int64),
        by_score=np.lexsort((-scores, labels)),
    )


class Matched(NamedTuple):
    """The outcome of each detection at each threshold.

    matches: int32 [T, D], the row of the sorted objects that a detection is matched to, -1 for none. outcome: int8
    [T, D], FALSE_POSITIVE, TRUE_POSITIVE or IGNORED. num_objects: int64 [C], the objects that were there to be found.
    """

    matches: NDArray[np.int32]
    outcome: NDArray[np.int8]
    num_objects: NDArray[np.int64]


class Matcher(Protocol):
    """Match detections to objects at each IoU threshold.

    At most `max_dets` detections per image and class count. Objects outside `area_range` (pixels, both ends included)
    are treated as difficult, and unmatched detections outside it are ignored.
    """

    def __call__(
        self,
        grouped: Grouped,
        iou_thresholds: Sequence[float],
        *,
        max_dets: int | None = None,
        area_range: tuple[float, float] = EVERY_AREA,
    ) -> Matched: ...


def voc_argmax(
    grouped: Grouped,
    iou_thresholds: Sequence[float],
    *,
    max_dets: int | None = None,
    area_range: tuple[float, float] = EVERY_AREA,
) -> Matched:
    """Match by PASCAL VOC's rule: a detection to the object of highest IoU, or to none if that is below the threshold.

    If that object is difficult the detection is ignored; if a better detection took it already, this one is false, even
    if it overlaps a second object enough (VOC devkit, VOCevaldet; Everingham et al. 2010, section 4.2).
    """
    thresholds = np.asarray(iou_thresholds, np.float64)
    ignored = grouped.difficult | _outside(grouped.area, area_range)
    matches = np.full((len(thresholds), len(grouped.scores)), -1, np.int32)
    _argmax(grouped.boxes, grouped.gt_boxes, ignored, grouped.spans, thresholds, matches)
    return _outcomes(grouped, matches, ignored, max_dets, area_range)


def coco_greedy(
    grouped: Grouped,
    iou_thresholds: Sequence[float],
    *,
    max_dets: int | None = None,
    area_range: tuple[float, float] = EVERY_AREA,
) -> Matched:
    """Match by COCO's rule: in order of score, a detection to the free object of highest IoU, if >= the threshold.

    Difficult objects come last and make the detection ignored. A crowd is never used up, and its overlap is the share
    of the detection inside it. Among equal overlaps the last object wins (pycocotools, COCOeval.evaluateImg).
    """
    thresholds = np.minimum(np.asarray(iou_thresholds, np.float64), 1 - 1e-10)  # so that IoU 1 passes at 1
    ignored = grouped.difficult | _outside(grouped.area, area_range)
    matches = np.full((len(thresholds), len(grouped.scores)), -1, np.int32)
    most = len(grouped.scores) if max_dets is None else max_dets
    _greedy(grouped.boxes, grouped.gt_boxes, ignored, grouped.crowd, grouped.spans, thresholds, most, matches)
    return _outcomes(grouped, matches, ignored, max_dets, area_range)


def _outcomes(
    grouped: Grouped,
    matches: NDArray[np.int32],
    ignored: NDArray[np.bool_],
    max_dets: int | None,
    area_range: tuple[float, float],
) -> Matched:
    kind_of_object = np.append(np.where(ignored, IGNORED, TRUE_POSITIVE), FALSE_POSITIVE).astype(np.int8)
    outcome = kind_of_object[matches]  # [T, D]; -1 is the last entry
    outside = _outside(box_area(grouped.boxes), area_range)
    outcome[:, outside] = np.where(outcome[:, outside] == FALSE_POSITIVE, IGNORED, outcome[:, outside])
    if max_dets is not None:
        outcome[:, grouped.rank >= max_dets] = IGNORED
    num_objects = np.bincount(grouped.gt_labels[~ignored], minlength=grouped.num_classes)
    return Matched(matches, outcome, num_objects)


def _outside(area: NDArray[np.float64], area_range: tuple[float, float]) -> NDArray[np.bool_]:
    return (area < area_range[0]) | (area > area_range[1])


def _check_range(name: str, values: NDArray[np.int64], limit: int) -> None:
    if len(values) and not (values.min() >= 0 and values.max() < limit):
        raise ValueError(f"{name} are {values.min()}..{values.max()}, must be in 0..{limit - 1}")


@jit
def overlap(box: NDArray[np.float64], other: NDArray[np.float64], share_of_box: bool) -> float:
    """Compute IoU of two boxes xyxy, or with `share_of_box` intersection over the area of `box`; 0 if disjoint."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared: float = width * height
    area: float = (box[2] - box[0]) * (box[3] - box[1])
    if share_of_box:
        return shared / area
    other_area: float = (other[2] - other[0]) * (other[3] - other[1])
    return shared / (area + other_area - shared)


@jit
def _argmax(
    boxes: NDArray[np.float64],
    gt_boxes: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    spans: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    matches: NDArray[np.int32],
) -> None:
    for d0, d1, g0, g1 in spans:
        taken = np.zeros((len(thresholds), g1 - g0), np.bool_)
        for d in range(d0, d1):
            best, best_iou = -1, 0.0
            for g in range(g0, g1):
                iou = overlap(boxes[d], gt_boxes[g], False)
                if iou > best_iou:
                    best, best_iou = g, iou
            if best < 0:
                continue
            for t in range(len(thresholds)):
                if best_iou >= thresholds[t] and not taken[t, best - g0]:
                    matches[t, d] = best
                    taken[t, best - g0] = not ignored[best]  # any number of detections may match an ignored one


@jit
def _greedy(
    boxes: NDArray[np.float64],
    gt_boxes: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    spans: NDArray[np.int64],
    thresholds: NDArray[np.float64],
    max_dets: int,
    matches: NDArray[np.int32],
) -> None:
    for d0, d1, g0, g1 in spans:
        if g0 == g1:
            continue
        d1 = min(d1, d0 + max_dets)
        ious = np.empty((d1 - d0, g1 - g0))
        for d in range(d0, d1):
            for g in range(g0, g1):
                ious[d - d0, g - g0] = overlap(boxes[d], gt_boxes[g], crowd[g])
        order = np.argsort(ignored[g0:g1], kind="mergesort")  # those that count first, otherwise as they came
        for t in range(len(thresholds)):
            taken = np.zeros(g1 - g0, np.bool_)
            for d in range(d0, d1):
                best, best_iou = -1, thresholds[t]
                for g in order:
                    if taken[g] and not crowd[g0 + g]:
                        continue
                    if best >= 0 and not ignored[g0 + best] and ignored[g0 + g]:
                        break
                    if ious[d - d0, g] >= best_iou:
                        best, best_iou = g, ious[d - d0, g]
                if best >= 0:
                    matches[t, d] = g0 + best
                    taken[best] = True
