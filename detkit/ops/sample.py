"""Which of many boxes take part in a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detkit.ops.match import NEGATIVE


def sample_balanced(matches: Tensor, *, num_samples: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Random positives, at most `positive_fraction * num_samples`, and negatives to fill up `num_samples`.

    matches: int64 [N] from `match`. Returns the indices of positives and of negatives, int64; fewer where there are
    fewer. Draws from torch's global generator (Faster R-CNN, section 3.1.3; Fast R-CNN, section 2.3).
    """
    positives = torch.nonzero(matches >= 0).flatten()
    negatives = torch.nonzero(matches == NEGATIVE).flatten()
    num_positive = min(len(positives), int(num_samples * positive_fraction))
    num_negative = min(len(negatives), num_samples - num_positive)
    return _draw(positives, num_positive), _draw(negatives, num_negative)


def hardest(losses: Tensor, counts: Sequence[int], num_kept: int) -> Tensor:
    """The indices of the `num_kept` highest losses of each image: int64 (OHEM: Shrivastava et al. 2016).

    losses: float [R], all images in order; counts: how many belong to each image.
    """
    kept, start = [], 0
    for part in losses.split(list(counts)):
        kept.append(start + part.topk(min(num_kept, len(part))).indices)
        start += len(part)
    return torch.cat(kept)


def _draw(indices: Tensor, count: int) -> Tensor:
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]
