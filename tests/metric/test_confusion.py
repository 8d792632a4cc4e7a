from __future__ import annotations

import numpy as np
import pytest

from detkit.metric.confusion import confusion_matrix
from detkit.metric.match import IGNORED, TRUE_POSITIVE, coco_greedy, group
from detkit.metric.records import GroundTruth, Predictions


def test_by_hand():
    cat, dog, far = [0, 0, 10, 10], [50, 0, 60, 10], [200, 200, 210, 210]
    truth = GroundTruth(
        image=[0, 0, 0, 1],
        boxes=[cat, dog, far, cat],
        labels=[0, 1, 1, 0],
        num_images=2,
        difficult=[False, False, False, True],
    )
    found = Predictions(
        image=[0, 0, 0, 0, 1, 1],
        boxes=[cat, cat, dog, [100, 0, 110, 10], cat, dog],
        labels=[0, 0, 0, 1, 0, 1],
        scores=[0.9, 0.8, 0.7, 0.6, 0.9, 0.4],
    )
    expected = [
        [1, 0, 0],  # the cat of image 0; that of image 1 is difficult: neither found nor missed
        [1, 0, 1],  # a dog taken for a cat, one missed
        [1, 1, 0],  # the second box on the cat, a dog where nothing is; 0.4 is below the threshold
    ]
    assert confusion_matrix(found, truth, 2, score_threshold=0.5).tolist() == expected


@pytest.mark.parametrize("seed", range(10))
def test_rows_are_objects_columns_are_detections(random_records, num_classes, seed):
    truth, found = random_records(seed)
    matrix = confusion_matrix(found, truth, num_classes, score_threshold=0.3)
    grouped = group(found.select(found.scores >= 0.3), truth, num_classes)
    outcome = coco_greedy(grouped, [0.5]).outcome[0]
    per_class = [
        np.bincount(x, minlength=num_classes)
        for x in (
            truth.labels[~truth.difficult],
            grouped.labels[outcome != IGNORED],
            grouped.labels[outcome == TRUE_POSITIVE],
        )
    ]
    assert matrix.sum(axis=1)[:-1].tolist() == per_class[0].tolist()
    assert matrix.sum(axis=0)[:-1].tolist() == per_class[1].tolist()
    assert np.diag(matrix)[:-1].tolist() == per_class[2].tolist()
