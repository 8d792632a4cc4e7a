from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detkit.metric.recall import best_overlap, proposal_recall
from detkit.metric.records import GroundTruth


def test_best_overlap_is_the_maximum_of_the_first_proposals():
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 50, (250, 2))
    boxes = np.concatenate([xy, xy + rng.uniform(5, 50, (250, 2))], axis=1)
    proposals, objects = boxes[:200], boxes[200:]
    iou = box_iou(torch.tensor(proposals), torch.tensor(objects)).numpy()
    best = best_overlap(torch.tensor(proposals), objects, (100, 10, 1000))
    np.testing.assert_allclose(best, [iou[:100].max(0), iou[:10].max(0), iou.max(0)], rtol=1e-9)


def test_table_by_hand():
    truth = GroundTruth(
        image=[1, 0, 1, 1],
        boxes=[[0, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]],
        labels=[0, 0, 1, 1],
        num_images=3,
        difficult=[False, False, False, True],
    )
    proposals = [np.zeros((0, 4)), np.array([[0, 0, 10, 10], [20, 0, 30, 6.0]]), np.ones((1, 4))]
    table = proposal_recall(iter(proposals), truth, ["cat", "dog", "cow"], counts=(1, 2)).to_dict()
    assert table["proposals_per_image"] == 1
    assert table["1"]["recall_50"] == pytest.approx(1 / 3) and table["2"]["recall_50"] == pytest.approx(2 / 3)
    assert table["2"]["recall_70"] == pytest.approx(1 / 3)
    assert table["2"]["average_recall"] == pytest.approx((10 + 3) / 30)  # IoU .6 reaches .5, .55 and .6
    assert table["2"]["ABO"] == pytest.approx({"cat": 0.5, "dog": 0.6, "cow": None})
    assert table["2"]["MABO"] == pytest.approx(0.55)


def test_no_images():
    nothing = GroundTruth(image=[], boxes=[], labels=[], num_images=0)
    table = proposal_recall([], nothing, ["cat"]).to_dict()
    assert table["proposals_per_image"] is None and table["300"]["recall_50"] is None and table["300"]["MABO"] is None
