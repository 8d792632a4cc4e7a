"""Schedule the learning rate: a curve over the budget used, times a warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detkit.core.errors import UserError

Curve = Callable[[float, int], float]  # (progress in [0, 1], step) -> factor


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """factor(progress, step) of every group's learning rate.

    curve: the shape over the whole budget. warmup: linear rise from `warmup_start` to 1 over so many steps, or, below
    1, over that fraction of the budget; 0 for none.
    """

    curve: Curve
    warmup: float = 0
    warmup_start: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise UserError(f"schedule.warmup={self.warmup}: give a number of steps, a fraction of the budget, or 0")

    def factor(self, progress: float, step: int) -> float:
        """What the base learning rate is multiplied by for the step numbered `step` (from 0)."""
        return self.curve(progress, step) * self._rise(progress, step)

    def _rise(self, progress: float, step: int) -> float:
        if self.warmup == 0:
            return 1.0
        done = (step + 1) / self.warmup if self.warmup >= 1 else progress / self.warmup
        return self.warmup_start + (1 - self.warmup_start) * min(1.0, done)


def constant(progress: float, step: int) -> float:
    """1 throughout."""
    return 1.0


def cosine(progress: float, step: int, *, end: float = 0.0) -> float:
    """Half a cosine from 1 down to `end` (Loshchilov and Hutter 2017, without restarts)."""
    return end + (1 - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def multistep(progress: float, step: int, *, milestones: Sequence[float], gamma: float = 0.1) -> float:
    """`gamma` to the number of milestones passed: below 1 a fraction of the budget, from 1 on a step."""
    return gamma ** sum((progress if milestone < 1 else step) >= milestone for milestone in milestones)
