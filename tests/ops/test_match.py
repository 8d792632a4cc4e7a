"""Matching against torchvision's Matcher, and what it leaves to us: empty images and difficult objects."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from detkit.ops.match import BETWEEN, NEGATIVE, match, match_bipartite, match_boxes, match_default_boxes


def random_boxes(count: int) -> torch.Tensor:
    corner = torch.randint(0, 40, (count, 2)).float()
    return torch.cat([corner, corner + torch.randint(4, 30, (count, 2))], dim=1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("force_best", [False, True])
def test_equals_torchvision(seed: int, force_best: bool) -> None:
    torch.manual_seed(seed)
    iou = box_iou(random_boxes(6), random_boxes(200))  # integer corners: ties do occur
    expected = Matcher(0.6, 0.3, allow_low_quality_matches=force_best)(iou)
    assert torch.equal(match(iou, positive=0.6, negative=0.3, force_best=force_best), expected)


def test_no_ground_truth_is_all_negative_and_no_box_is_no_match() -> None:
    assert match(torch.zeros(0, 3), positive=0.5, negative=0.5).tolist() == [NEGATIVE] * 3
    assert match(torch.zeros(3, 0), positive=0.5, negative=0.5, force_best=True).shape == (0,)


def test_a_ground_truth_that_no_box_touches_forces_nothing() -> None:
    assert match(torch.zeros(1, 3), positive=0.7, negative=0.3, force_best=True).tolist() == [NEGATIVE] * 3


def test_difficult_objects_are_neither_positive_nor_background() -> None:
    gt = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [22, 22, 30, 30], [60, 60, 70, 70]])
    got = match_boxes(boxes, gt, torch.tensor([False, True]), positive=0.5, negative=0.5, force_best=True)
    assert got.tolist() == [0, BETWEEN, BETWEEN, NEGATIVE]


def test_only_difficult_objects() -> None:
    gt = torch.tensor([[0.0, 0, 10, 10]])
    got = match_boxes(gt.clone(), gt, torch.tensor([True]), positive=0.7, negative=0.3, force_best=True)
    assert got.tolist() == [BETWEEN]


@pytest.mark.parametrize("seed", range(5))
def test_bipartite_equals_a_loop_over_pairs(seed: int) -> None:
    torch.manual_seed(seed)
    iou = torch.rand(6, 40) * (torch.rand(6, 40) < 0.4)
    expected = [NEGATIVE] * 40
    for box in range(40):
        best = max(range(6), key=lambda gt: iou[gt, box].item())
        if iou[best, box] > 0.5:
            expected[box] = best
    pairs = sorted(((iou[gt, box].item(), gt, box) for gt in range(6) for box in range(40)), reverse=True)
    taken_gt: set[int] = set()
    taken_box: set[int] = set()
    for value, gt, box in pairs:
        if value > 0 and gt not in taken_gt and box not in taken_box:
            expected[box] = gt
            taken_gt.add(gt)
            taken_box.add(box)
    assert match_bipartite(iou, positive=0.5).tolist() == expected


def test_bipartite_gives_each_ground_truth_a_box_of_its_own() -> None:
    iou = torch.tensor([[0.9, 0.2, 0.0], [0.8, 0.1, 0.0], [0.0, 0.0, 0.0]])  # the third touches nothing
    assert match_bipartite(iou, positive=0.5).tolist() == [0, 1, NEGATIVE]
    assert match_bipartite(torch.tensor([[0.9], [0.8]]), positive=0.5).tolist() == [0]
    assert match_bipartite(torch.zeros(0, 2), positive=0.5).tolist() == [NEGATIVE] * 2


def test_bipartite_with_difficult_objects() -> None:
    gt = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]])
    boxes = torch.tensor([[0.0, 0, 10, 30], [20, 20, 40, 40], [60, 60, 70, 70]])
    got = match_default_boxes(boxes, gt, torch.tensor([False, True]), positive=0.5)
    assert got.tolist() == [0, BETWEEN, NEGATIVE]
