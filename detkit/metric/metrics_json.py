"""The accuracies in metrics.json, key by key; whoever measures more (timing, proposals, ...) adds other keys.

Numbers are fractions 0..1, and None where there are no objects to find.
"""

from __future__ import annotations

from typing import TypedDict


class VOCRules(TypedDict):
    """How detections were compared with objects under PASCAL VOC's rule."""

    matcher: str
    iou_thresholds: list[float]
    max_dets: int | None
    difficult: str


class COCORules(TypedDict):
    """How detections were compared with objects under COCO's rule; areas: (least, most) pixels by name."""

    matcher: str
    iou_thresholds: list[float]
    max_dets: list[int]
    areas: dict[str, list[float]]
    difficult: str


class ComparedCounts(TypedDict):
    """What was compared; num_objects are those that are not difficult."""

    num_images: int
    num_objects: int
    num_difficult: int
    num_detections: int
    voc: VOCRules
    coco: COCORules


class OperatingPoint(TypedDict):
    """Counts of a class, and the score threshold of highest F1 with its precision and recall."""

    num_objects: int
    num_difficult: int
    num_detections: int
    best_f1: float | None
    best_threshold: float | None
    precision: float | None
    recall: float | None


class VOCClass(OperatingPoint):
    """A class at IoU 0.5."""

    ap_11pt: float | None
    ap_area: float | None


class VOCAtIoU(TypedDict):
    """Mean AP at one IoU threshold; mAP_11pt_float: as tools have it that compare recall as doubles."""

    mAP_11pt: float | None
    mAP_area: float | None
    mAP_11pt_float: float | None


class VOCMetrics(TypedDict):
    """Mean AP at IoU 0.5; by_iou: by the threshold with two decimals."""

    mAP_11pt: float | None
    mAP_area: float | None
    per_class: dict[str, VOCClass]
    by_iou: dict[str, VOCAtIoU]


class COCOClass(TypedDict):
    """A class, over objects of every size."""

    AP: float | None
    AP50: float | None
    AP75: float | None
    AR_100: float | None


class COCOMetrics(TypedDict):
    """COCO's twelve numbers: S, M, L are sizes of objects, 1, 10, 100 detections of a class in an image."""

    AP: float | None
    AP50: float | None
    AP75: float | None
    AP_S: float | None
    AP_M: float | None
    AP_L: float | None
    AR_1: float | None
    AR_10: float | None
    AR_100: float | None
    AR_S: float | None
    AR_M: float | None
    AR_L: float | None
    per_class: dict[str, COCOClass]


class ConfusionCounts(TypedDict):
    """Counts [C + 1][C + 1]: row = class of the object or "spurious", column = class it was detected as or "missed"."""

    rows: list[str]
    columns: list[str]
    score_threshold: float
    iou_threshold: float
    counts: list[list[int]]


class Metrics(TypedDict):
    """What `detkit.metric.evaluate.evaluate` measures; callers add what else they do."""

    protocol: ComparedCounts
    voc: VOCMetrics
    coco: COCOMetrics
    confusion: ConfusionCounts
