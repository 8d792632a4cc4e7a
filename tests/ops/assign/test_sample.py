"""Balanced sampling by its properties."""

from __future__ import annotations

import pytest
import torch

from detkit.ops.assign.match import IGNORE
from detkit.ops.assign.sample import hard_negatives, hardest, sample_balanced


@pytest.mark.parametrize(
    ("num_positive", "num_negative", "expected"),
    [(40, 100, (8, 24)), (3, 100, (3, 29)), (40, 5, (8, 5)), (0, 0, (0, 0))],
)
def test_counts(num_positive: int, num_negative: int, expected: tuple[int, int]) -> None:
    matches = torch.cat([torch.arange(num_positive), torch.full((num_negative,), -1), torch.full((9,), IGNORE)])
    matches = matches[torch.randperm(len(matches))]
    positive, negative = sample_balanced(matches, num_samples=32, positive_fraction=0.25)
    assert (len(positive), len(negative)) == expected
    assert (matches[positive] >= 0).all() and (matches[negative] == -1).all()
    assert len(set(positive.tolist() + negative.tolist())) == sum(expected)


def test_every_candidate_can_be_drawn() -> None:
    matches = torch.tensor([0, 1, 2, 3, -1])
    drawn = {sample_balanced(matches, num_samples=4, positive_fraction=0.25)[0].item() for _ in range(100)}
    assert drawn == {0, 1, 2, 3}


def test_hardest_equals_a_ranking_of_each_image() -> None:
    torch.manual_seed(0)
    counts, losses = [5, 0, 12, 3], torch.rand(20)
    expected, start = [], 0
    for count in counts:
        rows = sorted(range(start, start + count), key=lambda row: -losses[row].item())
        expected += rows[:4]
        start += count
    assert hardest(losses, counts, 4).tolist() == expected


def test_hard_negatives_equal_a_ranking_of_each_image() -> None:
    torch.manual_seed(0)
    losses = torch.rand(4, 30).round(decimals=1)  # with ties, of which the first comes first
    matches = torch.full((4, 30), -1)
    matches[0, :3] = 0
    matches[1, 5:25] = 1  # fewer negatives than wanted
    matches[3, 7] = 2
    matches[3, 10:20] = IGNORE
    chosen = hard_negatives(losses, matches, ratio=3)
    for image, positives in enumerate([3, 20, 0, 1]):
        negatives = [box for box in range(30) if matches[image, box] == -1]
        expected = sorted(negatives, key=lambda box: -losses[image, box].item())[: 3 * positives]
        assert torch.nonzero(chosen[image]).flatten().tolist() == sorted(expected)
