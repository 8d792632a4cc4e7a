"""Our VOC numbers are those of a slow evaluator written straight from the devkit's description."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from detkit.metric.average_precision import area, average_precision, eleven_point
from detkit.metric.evaluate import evaluate
from detkit.metric.match import voc_argmax


def iou_inclusive(a, b):
    """The devkit's IoU of integer boxes: 1-based, last pixel included."""
    a, b = ([int(v[0]) + 1, int(v[1]) + 1, int(v[2]), int(v[3])] for v in (a, b))
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if w <= 0 or h <= 0:
        return Fraction(0)
    size = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return Fraction(w * h, size[0] + size[1] - w * h)


def oracle(ground_truth, predictions, label, threshold):
    """(11-point, area) as exact fractions, or None where the class has no object."""
    objects = {}
    for k in np.flatnonzero(ground_truth.labels == label):
        entry = {"box": ground_truth.boxes[k], "difficult": ground_truth.difficult[k], "found": False}
        objects.setdefault(ground_truth.image[k], []).append(entry)
    total = sum(not item["difficult"] for items in objects.values() for item in items)
    if total == 0:
        return None
    mine = [k for k in range(len(predictions)) if predictions.labels[k] == label]
    mine.sort(key=lambda k: (-predictions.scores[k], predictions.image[k], k))
    points, true, false = [], 0, 0
    for k in mine:
        candidates = objects.get(predictions.image[k], [])
        ious = [iou_inclusive(predictions.boxes[k], item["box"]) for item in candidates]
        best = max(range(len(ious)), key=ious.__getitem__, default=None)
        if best is not None and ious[best] >= threshold:
            if candidates[best]["difficult"]:
                continue
            hit = not candidates[best]["found"]
            candidates[best]["found"] = True
        else:
            hit = False
        true, false = true + hit, false + (not hit)
        points.append((Fraction(true, total), Fraction(true, true + false)))
    eleven = sum(max((p for r, p in points if r >= Fraction(k, 10)), default=Fraction(0)) for k in range(11)) / 11
    under, last = Fraction(0), Fraction(0)
    for k, (recall, _) in enumerate(points):
        under += (recall - last) * max(p for _, p in points[k:])
        last = recall
    return float(eleven), float(under)


@pytest.mark.parametrize("seed", range(25))
def test_random_sets(random_records, num_classes, seed):
    ground_truth, predictions = random_records(seed, num_images=12)
    thresholds = [0.3, 0.5, 0.75]
    results = [
        average_precision(
            predictions, ground_truth, num_classes, matcher=voc_argmax, integrator=integrator, iou_thresholds=thresholds
        ).ap
        for integrator in (eleven_point, area)
    ]
    for t, threshold in enumerate(thresholds):
        exact = Fraction(str(threshold))
        for label in range(num_classes):
            expected = oracle(ground_truth, predictions, label, exact)
            ours = [float(ap[t, label]) for ap in results]
            assert ours == pytest.approx([np.nan, np.nan] if expected is None else expected, abs=1e-9, nan_ok=True)


def test_evaluate_reports_the_oracle(random_records, num_classes):
    ground_truth, predictions = random_records(3)
    voc = evaluate(predictions, ground_truth, [str(label) for label in range(num_classes)])["voc"]
    expected = [oracle(ground_truth, predictions, label, Fraction(1, 2)) for label in range(num_classes)]
    known = np.array([pair for pair in expected if pair is not None])
    assert [voc["mAP_11pt"], voc["mAP_area"]] == pytest.approx(known.mean(axis=0).tolist(), abs=1e-9)
    assert voc["per_class"][str(num_classes - 1)]["ap_area"] is None
