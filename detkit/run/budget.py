"""Parse lengths of training and intervals, in epochs, optimizer steps or time, like "20ep"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from detkit.core.errors import UserError

SECONDS = {"s": 1, "min": 60, "h": 3600}
FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ep|it|s|min|h)\s*")


@dataclass(frozen=True)
class Progress:
    """How far a training is: optimizer steps done, and the seconds spent in them."""

    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Duration:
    """A length of training. Exact: "0.1ep" of 30 steps is 3 steps, not a rounding error more.

    ahead: how many steps of the present size the epochs done are more than the steps done, where those were smaller or
    larger: a run may go on with another number of processes.
    """

    amount: Fraction
    unit: str
    steps_per_epoch: Fraction = Fraction(1)
    ahead: Fraction = Fraction(0)

    @staticmethod
    def parse(
        text: object, key: str, steps_per_epoch: Fraction = Fraction(1), ahead: Fraction = Fraction(0)
    ) -> Duration:
        """The duration that `text` means: a number and ep, it, s, min or h.

        key: the config key it comes from. steps_per_epoch: optimizer steps in one pass over the data; need not be
        whole. ahead: see above. Raises UserError.
        """
        match = FORM.fullmatch(str(text))
        if not match or Fraction(match[1]) == 0:
            raise UserError(f"{key}={text}: write a positive number and its unit, like 20ep, 3000it, 90s, 10min or 2h")
        return Duration(Fraction(match[1]), match[2], steps_per_epoch, ahead)

    @property
    def timed(self) -> bool:
        """Whether it is measured by the clock."""
        return self.unit in SECONDS

    @property
    def total(self) -> float:
        """Its length in seconds if timed, else in steps."""
        return float(self._total())

    def passed(self, progress: Progress) -> float:
        """How many times the duration fits into what was done; a budget is used up at 1."""
        return float(Fraction(self._done(progress)) / self._total())

    def times(self, progress: Progress) -> int:
        """`passed` in whole times: something periodic is due when this grows."""
        return int(Fraction(self._done(progress)) // self._total())

    def _total(self) -> Fraction:
        return self.amount * (SECONDS[self.unit] if self.timed else self.steps_per_epoch if self.unit == "ep" else 1)

    def _done(self, progress: Progress) -> float | Fraction:
        if self.unit == "ep":
            return progress.step + self.ahead
        return progress.seconds if self.timed else progress.step


def parse_optional(text: object, key: str, steps_per_epoch: Fraction, ahead: Fraction = Fraction(0)) -> Duration | None:
    """`Duration.parse`, with None for null: never."""
    return None if text is None else Duration.parse(text, key, steps_per_epoch, ahead)


def is_due(period: Duration | None, before: Progress, now: Progress) -> bool:
    """Whether the end of a period lies in the step that led from `before` to `now`."""
    return period is not None and period.times(now) > period.times(before)
