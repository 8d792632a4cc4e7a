"""Compute every metric of one evaluation in one pass over the records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from detkit.metric.average_precision import (
    Scores,
    area,
    coco_101_point,
    curves,
    eleven_point,
    eleven_point_float,
    integrate,
)
from detkit.metric.confusion import confusion_matrix
from detkit.metric.match import TRUE_POSITIVE, Grouped, Matched, coco_greedy, group, voc_argmax
from detkit.metric.metrics_json import COCOMetrics, ComparedCounts, Metrics, OperatingPoint, VOCMetrics
from detkit.metric.records import GroundTruth, Predictions

COCO_IOUS = np.linspace(0.5, 0.95, 10)  # the doubles that pycocotools compares with
COCO_MAX_DETS = (1, 10, 100)
COCO_AREAS = {"all": (0.0, 1e10), "S": (0.0, 32.0**2), "M": (32.0**2, 96.0**2), "L": (96.0**2, 1e10)}
CONFUSION_IOU = 0.5


def evaluate(
    predictions: Predictions,
    ground_truth: GroundTruth,
    classes: Sequence[str],
    *,
    voc_iou_thresholds: Sequence[float] = (0.5,),
    confusion_score: float = 0.5,
) -> Metrics:
    """Compute PASCAL VOC and COCO metrics and the confusion matrix, as a nested dict for json.dump.

    Numbers are fractions 0..1; what has no objects is None and left out of means. voc_iou_thresholds: of
    ["voc"]["by_iou"], beside 0.5. confusion_score: detections below it are left out of the confusion matrix.
    """
    grouped = group(predictions, ground_truth, len(classes))
    matrix = confusion_matrix(
        predictions, ground_truth, len(classes), score_threshold=confusion_score, iou_threshold=CONFUSION_IOU
    )
    metrics: Metrics = {
        "protocol": _protocol(grouped, ground_truth, voc_iou_thresholds),
        "voc": _voc(grouped, classes, voc_iou_thresholds),
        "coco": _coco(grouped, classes),
        "confusion": {
            "rows": [*classes, "spurious"],
            "columns": [*classes, "missed"],
            "score_threshold": confusion_score,
            "iou_threshold": CONFUSION_IOU,
            "counts": matrix.tolist(),
        },
    }
    return cast(Metrics, jsonable(metrics))


def jsonable(value: object) -> object:
    """Replace NaN by None and NumPy's numbers by Python's in a nested dict, for json.dump."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _protocol(grouped: Grouped, ground_truth: GroundTruth, voc_iou_thresholds: Sequence[float]) -> ComparedCounts:
    return {
        "num_images": ground_truth.num_images,
        "num_objects": int((~grouped.difficult).sum()),
        "num_difficult": int(grouped.difficult.sum()),
        "num_detections": len(grouped.scores),
        "voc": {
            "matcher": "voc_argmax",
            "iou_thresholds": sorted({0.5, *voc_iou_thresholds}),
            "max_dets": None,
            "difficult": "ignored",
        },
        "coco": {
            "matcher": "coco_greedy",
            "iou_thresholds": [round(float(threshold), 2) for threshold in COCO_IOUS],
            "max_dets": list(COCO_MAX_DETS),
            "areas": {name: list(limits) for name, limits in COCO_AREAS.items()},
            "difficult": "ignored; crowds by intersection over the detection",
        },
    }


def _voc(grouped: Grouped, classes: Sequence[str], iou_thresholds: Sequence[float]) -> VOCMetrics:
    thresholds = sorted({0.5, *iou_thresholds})
    matched = voc_argmax(grouped, thresholds)
    eleven, exact = integrate(grouped, matched, eleven_point), integrate(grouped, matched, area)
    by_double = integrate(grouped, matched, eleven_point_float)
    half = thresholds.index(0.5)
    return {
        "mAP_11pt": _mean(eleven.ap[half]),
        "mAP_area": _mean(exact.ap[half]),
        "per_class": {
            name: {"ap_11pt": eleven.ap[half, label], "ap_area": exact.ap[half, label], **row}
            for label, (name, row) in enumerate(zip(classes, _operating_points(grouped, matched, half), strict=True))
        },
        "by_iou": {
            f"{threshold:.2f}": {
                "mAP_11pt": _mean(eleven.ap[t]),
                "mAP_area": _mean(exact.ap[t]),
                "mAP_11pt_float": _mean(by_double.ap[t]),
            }
            for t, threshold in enumerate(thresholds)
        },
    }


def _operating_points(grouped: Grouped, matched: Matched, threshold: int) -> list[OperatingPoint]:
    """Count each class, and find the score threshold of highest F1 with its precision and recall."""
    num_detections = np.bincount(grouped.labels, minlength=grouped.num_classes)
    num_difficult = np.bincount(grouped.gt_labels[grouped.difficult], minlength=grouped.num_classes)
    rows: list[OperatingPoint] = []
    for label, curve in enumerate(curves(grouped, matched, threshold)):
        f1, score, precision, recall = curve.best_f1()
        rows.append(
            {
                "num_objects": curve.num_objects,
                "num_difficult": int(num_difficult[label]),
                "num_detections": int(num_detections[label]),
                "best_f1": f1,
                "best_threshold": score,
                "precision": precision,
                "recall": recall,
            }
        )
    return rows


def _coco(grouped: Grouped, classes: Sequence[str]) -> COCOMetrics:
    by_area: dict[str, Scores] = {}
    average_recall: dict[int, NDArray[np.float64]] = {}
    for name, limits in COCO_AREAS.items():
        matched = coco_greedy(grouped, COCO_IOUS.tolist(), max_dets=COCO_MAX_DETS[-1], area_range=limits)
        by_area[name] = integrate(grouped, matched, coco_101_point)
        if name == "all":
            # a detection is matched before those of lower score are looked at: fewer of them are a prefix
            average_recall = {most: _recall_of_first(grouped, matched, most) for most in COCO_MAX_DETS}
    every = by_area["all"]
    ap50, ap75 = every.ap[0], every.ap[5]
    return {
        "AP": _mean(every.ap),
        "AP50": _mean(ap50),
        "AP75": _mean(ap75),
        "AP_S": _mean(by_area["S"].ap),
        "AP_M": _mean(by_area["M"].ap),
        "AP_L": _mean(by_area["L"].ap),
        "AR_1": _mean(average_recall[1]),
        "AR_10": _mean(average_recall[10]),
        "AR_100": _mean(average_recall[100]),
        "AR_S": _mean(by_area["S"].recall),
        "AR_M": _mean(by_area["M"].recall),
        "AR_L": _mean(by_area["L"].recall),
        "per_class": {
            name: {
                "AP": every.ap[:, label].mean(),
                "AP50": ap50[label],
                "AP75": ap75[label],
                "AR_100": every.recall[:, label].mean(),
            }
            for label, name in enumerate(classes)
        },
    }


def _recall_of_first(grouped: Grouped, matched: Matched, max_dets: int) -> NDArray[np.float64]:
    """Compute recall when only the first detections of each image and class count: float64 [T, C]."""
    first = (matched.outcome == TRUE_POSITIVE) & (grouped.rank < max_dets)
    found = np.stack([np.bincount(grouped.labels[row], minlength=grouped.num_classes) for row in first])
    return np.where(matched.num_objects > 0, found / np.maximum(matched.num_objects, 1), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    """Average without NaN; NaN if nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan
