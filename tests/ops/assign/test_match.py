"""Matching against torchvision's Matcher, and what it leaves to us: empty images and difficult objects."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from detkit.core.structures import Target
from detkit.ops.assign.match import IGNORE, NEGATIVE, match, match_bipartite, match_boxes, match_default_boxes
from detkit.ops.assign.objects import objects_of


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
    assert got.tolist() == [0, IGNORE, IGNORE, NEGATIVE]


def test_only_difficult_objects() -> None:
    gt = torch.tensor([[0.0, 0, 10, 10]])
    got = match_boxes(gt.clone(), gt, torch.tensor([True]), positive=0.7, negative=0.3, force_best=True)
    assert got.tolist() == [IGNORE]


def bipartite_loop(iou: torch.Tensor, positive: float) -> list[int]:
    """`match_bipartite` of one image: the highest of all IoUs is looked up once for each ground truth."""
    best_iou, best = iou.max(dim=0)
    matches = torch.where(best_iou > positive, best, NEGATIVE)
    left = iou.clone()
    for _ in range(min(iou.shape)):
        gt, box = divmod(int(left.argmax()), iou.shape[1])
        if left[gt, box] <= 0:
            break
        matches[box] = gt
        left[gt] = -1
        left[:, box] = -1
    return matches.tolist()


def spread(kind: str, count: int) -> torch.Tensor:
    """Boxes whose overlaps differ, or tie, or that all want the same default boxes."""
    corner, size = {
        "spread": (torch.rand(count, 2) * 60, 3 + torch.rand(count, 2) * 30),
        "ties": (torch.randint(0, 60, (count, 2)), torch.randint(4, 20, (count, 2))),
        "cluster": (30 + torch.randn(count, 2) * 3, 10 + torch.rand(count, 2) * 4),
        "same": (torch.full((count, 2), 30.0), torch.full((count, 2), 12.0)),
        "few places": (torch.randint(0, 2, (count, 2)) * 16, torch.full((count, 2), 16.0)),
    }[kind]
    return torch.cat([corner, corner + size], dim=1).float()


@pytest.mark.parametrize("kind", ["spread", "ties", "cluster", "same", "few places"])
@pytest.mark.parametrize("seed", range(4))
def test_bipartite_equals_a_loop_over_the_best_pairs(kind: str, seed: int) -> None:
    """In several images at once, ties and more ground truths than boxes included."""
    torch.manual_seed(seed)
    cells = 16 * torch.cartesian_prod(torch.arange(5), torch.arange(5)).float()
    sizes = torch.tensor([[16.0, 16.0], [12.0, 20.0], [30.0, 30.0]])[: 1 + seed]
    boxes = torch.cat([torch.cat([cells, cells + size], dim=1) for size in sizes])
    counts = [7, 0, 1, 40, 0]
    ious = [box_iou(spread(kind, count), boxes) for count in counts]
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    found = match_bipartite(torch.cat(ious), image, len(counts), positive=0.4).tolist()
    for row, iou, first in zip(found, ious, [0, 7, 7, 8, 48], strict=True):
        expected = bipartite_loop(iou, 0.4) if len(iou) else [NEGATIVE] * len(boxes)
        assert row == [gt + first if gt >= 0 else gt for gt in expected]


def test_bipartite_gives_each_ground_truth_a_box_of_its_own() -> None:
    def found(iou: torch.Tensor) -> list[int]:
        return match_bipartite(iou, torch.zeros(len(iou), dtype=torch.int64), 1, positive=0.5)[0].tolist()

    iou = torch.tensor([[0.9, 0.2, 0.0], [0.8, 0.1, 0.0], [0.0, 0.0, 0.0]])  # the third touches nothing
    assert found(iou) == [0, 1, NEGATIVE]
    assert found(torch.tensor([[0.9], [0.8]])) == [0]
    assert found(torch.zeros(0, 2)) == [NEGATIVE] * 2
    assert found(torch.zeros(2, 0)) == []


def test_bipartite_with_difficult_objects() -> None:
    gt = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]])
    boxes = torch.tensor([[0.0, 0, 10, 30], [20, 20, 40, 40], [60, 60, 70, 70]])
    got = match_default_boxes(boxes, objects_of([target(gt, [False, True])]), positive=0.5)
    assert got.tolist() == [[0, IGNORE, NEGATIVE]]


def target(boxes: torch.Tensor, difficult: list[bool]) -> Target:
    return {
        "boxes": boxes.reshape(-1, 4),
        "labels": torch.zeros(len(difficult), dtype=torch.int64),
        "difficult": torch.tensor(difficult, dtype=torch.bool),
    }
