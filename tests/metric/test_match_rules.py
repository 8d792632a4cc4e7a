"""The cases in which evaluators differ, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detkit.metric.match import coco_greedy, group, voc_argmax
from detkit.metric.records import GroundTruth, Predictions

FP, TP, IGNORED = 0, 1, 2
OBJECT = [0, 0, 10, 10]
HALF = [0, 0, 10, 5]  # IoU exactly 0.5 with OBJECT


def outcomes(matcher, objects, found, *, difficult=None, crowd=None, threshold=0.5, **options):
    """Outcome of each detection, given in descending order of score; one image, one class."""
    ground_truth = GroundTruth(
        image=[0] * len(objects),
        boxes=np.array(objects, float).reshape(-1, 4),
        labels=[0] * len(objects),
        num_images=1,
        difficult=difficult,
        crowd=crowd,
    )
    predictions = Predictions(
        image=[0] * len(found), boxes=found, labels=[0] * len(found), scores=np.linspace(0.9, 0.1, len(found))
    )
    return matcher(group(predictions, ground_truth, 1), [threshold], **options).outcome[0].tolist()


both = pytest.mark.parametrize("matcher", [voc_argmax, coco_greedy])


@both
def test_duplicate_is_false(matcher):
    assert outcomes(matcher, [OBJECT], [OBJECT, OBJECT]) == [TP, FP]


@both
def test_iou_of_exactly_the_threshold_counts(matcher):
    assert outcomes(matcher, [OBJECT], [HALF]) == [TP]
    assert outcomes(matcher, [OBJECT], [[0, 0, 10, 4.99]]) == [FP]


@both
def test_nothing_to_find_and_nothing_found(matcher):
    assert outcomes(matcher, [], [OBJECT]) == [FP]
    assert outcomes(matcher, [OBJECT], []) == []


def test_duplicates_on_a_difficult_object():
    """VOC ignores any number of them, COCO the first: a difficult object is used up, a crowd is not."""
    assert outcomes(voc_argmax, [OBJECT], [OBJECT] * 3, difficult=[True]) == [IGNORED] * 3
    assert outcomes(coco_greedy, [OBJECT], [OBJECT] * 3, difficult=[True]) == [IGNORED, FP, FP]
    assert outcomes(coco_greedy, [OBJECT], [OBJECT] * 3, crowd=[True]) == [IGNORED] * 3


def test_no_second_best_in_voc():
    """The second detection overlaps the taken object most and the free one enough."""
    objects = [[0, 0, 10, 10], [0, 3, 10, 13]]
    found = [[0, 0, 10, 10], [0, 1, 10, 11]]
    assert outcomes(voc_argmax, objects, found) == [TP, FP]
    assert outcomes(coco_greedy, objects, found) == [TP, TP]


def test_difficult_object_of_highest_overlap():
    """VOC goes by the highest overlap even if difficult; COCO prefers an object that counts."""
    objects, found = [[0, 0, 10, 10], [0, 2, 10, 12]], [[0, 0, 10, 10]]
    assert outcomes(voc_argmax, objects, found, difficult=[True, False]) == [IGNORED]
    assert outcomes(coco_greedy, objects, found, difficult=[True, False]) == [TP]


def test_crowd_by_share_of_the_detection():
    crowd, inside = [0, 0, 100, 100], [10, 10, 20, 20]
    assert outcomes(coco_greedy, [crowd], [inside], crowd=[True]) == [IGNORED]
    assert outcomes(voc_argmax, [crowd], [inside], crowd=[True]) == [FP]


def test_area_range_and_max_dets():
    small, large = [0, 0, 4, 4], [50, 50, 90, 90]
    options = {"area_range": (100.0, 1e10)}
    assert outcomes(coco_greedy, [small, large], [small, large, [200, 0, 202, 2]], **options) == [IGNORED, TP, IGNORED]
    assert outcomes(coco_greedy, [small, large], [small, large], max_dets=1) == [TP, IGNORED]


@both
def test_a_degenerate_object_is_one_that_nobody_finds(matcher):
    assert outcomes(matcher, [[5, 5, 5, 9]], [[5, 5, 5, 9]]) == [FP]


def test_bad_columns_are_named():
    truth = GroundTruth(image=[0], boxes=[OBJECT], labels=[3], num_images=1)
    empty = Predictions(image=[], boxes=[], scores=[], labels=[])
    with pytest.raises(ValueError, match=r"ground truth labels are 3..3, must be in 0..1"):
        group(empty, truth, 2)
    with pytest.raises(ValueError, match="boxes has 1 rows, labels has 2"):
        GroundTruth(image=[0, 0], boxes=[OBJECT], labels=[0, 0], num_images=1)
    with pytest.raises(ValueError, match="NaN"):
        Predictions(image=[0], boxes=[OBJECT], labels=[0], scores=[np.nan])
