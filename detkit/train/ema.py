"""Average the weights exponentially over the steps."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class Ema(Generic[Model]):
    """A copy of `model` that follows it: average = decay * average + (1 - decay) * current, after every step.

    The decay rises as (1 + step) / (10 + step) up to `decay`, so that a short training is not stuck at its start.
    Running statistics are averaged like weights; counters are copied.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.module: Model = copy.deepcopy(model).requires_grad_(False).eval()
        self._pairs = _floating_pairs(self.module, model)
        self._source = model

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step` (from 1)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        averages, currents = self._pairs
        torch._foreach_lerp_(averages, currents, 1 - keep)
        for mine, theirs in zip(self.module.buffers(), self._source.buffers(), strict=True):
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _floating_pairs(average: nn.Module, current: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The floating-point tensors of both, without those that never change (frozen weights, constants)."""
    pairs: list[tuple[Tensor, Tensor]] = [
        (mine, theirs)
        for mine, theirs in zip(average.parameters(), current.parameters(), strict=True)
        if theirs.requires_grad
    ]
    pairs += [
        (mine, theirs)
        for mine, theirs in zip(average.buffers(), current.buffers(), strict=True)
        if mine.is_floating_point()
    ]
    return [mine.detach() for mine, _ in pairs], [theirs.detach() for _, theirs in pairs]
