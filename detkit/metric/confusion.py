"""Confusion matrix with a "missed" column and a "spurious" row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detkit.metric.match import IGNORED, coco_greedy, group
from detkit.metric.records import GroundTruth, Predictions


def confusion_matrix(
    predictions: Predictions,
    ground_truth: GroundTruth,
    num_classes: int,
    *,
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
) -> NDArray[np.int64]:
    """Count detections by class, int64 [C+1, C+1]: row = class of the object, column = class it was detected as.

    The last column is "missed", the last row "spurious". Detections of score >= `score_threshold` are first matched to
    objects of their own class by `coco_greedy`; what is left of both is matched in the same way across classes. A row
    sums to the objects of a class that are not difficult, a column to its detections that are not ignored.
    """
    kept = predictions.select(predictions.scores >= score_threshold)
    grouped = group(kept, ground_truth, num_classes)
    matched = coco_greedy(grouped, [iou_threshold])
    matches, counted = matched.matches[0], matched.outcome[0] != IGNORED

    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    right = grouped.labels[counted & (matches >= 0)]
    np.add.at(matrix, (right, right), 1)

    found = np.zeros(len(ground_truth), np.bool_)
    found[grouped.objects[matches[matches >= 0]]] = True
    objects = np.flatnonzero(~found & ~ground_truth.difficult)
    rest = kept.select(grouped.detections[counted & (matches < 0)])
    blind = group(
        replace(rest, labels=np.zeros_like(rest.labels)),
        GroundTruth(
            image=ground_truth.image[objects],
            boxes=ground_truth.boxes[objects],
            labels=np.zeros(len(objects), np.int64),
            num_images=ground_truth.num_images,
        ),
        1,
    )
    taken_by = coco_greedy(blind, [iou_threshold]).matches[0]
    truth = np.append(ground_truth.labels[objects][blind.objects], num_classes)  # -1 finds the last: spurious
    np.add.at(matrix, (truth[taken_by], rest.labels[blind.detections]), 1)

    missed = np.delete(truth[:-1], taken_by[taken_by >= 0])
    matrix[:num_classes, num_classes] += np.bincount(missed, minlength=num_classes)
    return matrix
