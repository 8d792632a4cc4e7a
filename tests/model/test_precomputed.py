"""Regions from outside: handed on in order, cut, thinned; named where they are missing."""

from __future__ import annotations

import pytest
import torch

from detkit.core.errors import UserError
from detkit.core.structures import Batch
from detkit.model.proposer.precomputed import PrecomputedProposals

BOXES = [
    [0, 0, 30, 30],
    [2, 1, 31, 28],  # the same in cells of 16
    [50, 50, 50.5, 90],  # too narrow
    [90, 60, 140, 110],  # beyond the content
    [130, 0, 140, 20],  # wholly beyond it
    [1, 2, 33, 31],  # the same again
]


def batch(proposals: list[torch.Tensor] | None) -> Batch:
    sizes = [(100, 120)] * 1
    return Batch(torch.zeros(1, 3, 128, 128, dtype=torch.uint8), sizes, sizes, ["x"], None, proposals)


def test_regions_are_cut_to_the_content_and_kept_in_order() -> None:
    (kept,) = PrecomputedProposals(features=[]).eval()([], batch([torch.tensor(BOXES)]))
    assert kept.tolist() == [BOXES[0], BOXES[1], [90, 60, 120, 100], BOXES[5]]
    assert PrecomputedProposals(features=[]).eval()([], batch([torch.zeros(0, 4)]))[0].shape == (0, 4)


def test_the_best_of_those_that_pool_the_same_cells_is_tested() -> None:
    proposer = PrecomputedProposals(features=[], same_at=16)
    assert proposer.eval()([], batch([torch.tensor(BOXES)]))[0].tolist() == [BOXES[0], [90, 60, 120, 100]]
    regions, losses = proposer.train().loss([], batch([torch.tensor(BOXES)]))
    assert len(regions[0]) == 4 and losses == {}


def test_train_and_test_have_their_own_number() -> None:
    proposer = PrecomputedProposals(features=[], num_proposals=(2, 1))
    assert len(proposer.train()([], batch([torch.tensor(BOXES)]))[0]) == 2
    assert len(proposer.eval()([], batch([torch.tensor(BOXES)]))[0]) == 1


def test_missing_regions_are_named() -> None:
    with pytest.raises(UserError, match="proposal=selective_search_fast"):
        PrecomputedProposals(features=[])([], batch(None))
