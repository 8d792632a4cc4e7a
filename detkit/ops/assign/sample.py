"""Sampling of the boxes that take part in a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detkit.ops.assign.match import NEGATIVE


def sample_balanced(matches: Tensor, *, num_samples: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Sample positives, at most `positive_fraction * num_samples`, and negatives to fill up `num_samples`, at random.

    matches: int64 [N] from `match`. Returns the indices of positives and of negatives, int64; fewer where there are
    fewer. Draws from torch's global generator (Faster R-CNN, section 3.1.3; Fast R-CNN, section 2.3).
    """
    positives = torch.nonzero(matches >= 0).flatten()
    negatives = torch.nonzero(matches == NEGATIVE).flatten()
    num_positive = min(len(positives), int(num_samples * positive_fraction))
    num_negative = min(len(negatives), num_samples - num_positive)
    return _draw(positives, num_positive), _draw(negatives, num_negative)


def hardest(losses: Tensor, counts: Sequence[int], num_kept: int) -> Tensor:
    """Select the `num_kept` highest losses of each image: int64 indices (OHEM: Shrivastava et al. 2016).

    losses: float [R], all images in order; counts: how many belong to each image.
    """
    kept, start = [], 0
    for part in losses.split(list(counts)):
        kept.append(start + part.topk(min(num_kept, len(part))).indices)
        start += len(part)
    return torch.cat(kept)


def hard_negatives(losses: Tensor, matches: Tensor, *, ratio: float) -> Tensor:
    """Mine the negatives of highest loss, `ratio` for each positive of the same image: bool [B, N] (SSD, section 2.2).

    losses: float [B, N], what each box would cost as background; matches: int64 [B, N]. An image without positives
    has no negatives.
    """
    wanted = (ratio * (matches >= 0).sum(dim=1, keepdim=True)).long()  # [B, 1]
    ranked = losses.masked_fill(matches != NEGATIVE, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(losses.shape[1], device=losses.device).expand_as(ranked)
    rank = torch.empty_like(ranked).scatter_(1, ranked, places)
    return (rank < wanted) & (matches == NEGATIVE)


def _draw(indices: Tensor, count: int) -> Tensor:
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]
