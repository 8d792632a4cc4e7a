"""Track the best evaluation of a training, and for how long it has not been beaten."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from detkit.core.errors import UserError
from detkit.core.plain import Metrics, Settings
from detkit.core.suggest import among
from detkit.task.base import AnyTask, select


@dataclass(frozen=True)
class Best:
    """value: the highest metric. step: when. since: evaluations after it that did not beat it."""

    value: float = -math.inf
    step: int = 0
    since: int = 0

    def after(self, value: float | None, step: int) -> Best:
        """The best including an evaluation at `step`.

        None, or no number, is the value where nothing could be measured; as long as nothing was, the latest is best.
        """
        if value is None or math.isnan(value):
            return replace(self, since=self.since + 1) if self.is_measured else Best(step=step)
        beaten = value > self.value or not self.is_measured
        return Best(value, step) if beaten else replace(self, since=self.since + 1)

    @property
    def is_measured(self) -> bool:
        """Whether any evaluation so far gave a number."""
        return self.value > -math.inf

    def describe(self) -> str:
        """Which weights count, for a log."""
        if self.is_measured:
            return f"best at step {self.step}"
        return f"nothing could be measured: the latest weights count, those of step {self.step}"

    def is_stale(self, patience: int | None) -> bool:
        """Whether `patience` evaluations in a row did not beat it; null never gives up."""
        return patience is not None and self.since >= patience


def score_of(metrics: Metrics, config: Settings) -> float:
    """The number of a finished training by which a sweeper of Hydra compares: its `trainer.best_metric`.

    The best one on the validation split, for settings are not chosen on test data; where there was none, that of what
    was measured in the end. NaN where there was nothing to measure.
    """
    if "validation" in metrics:
        value = metrics["validation"]["value"]
    else:
        value = select(metrics, config["trainer"]["best_metric"]) if metrics else None
    return math.nan if value is None else value


def check_patience(patience: int | None, *, evaluates: bool) -> None:
    """Raise UserError for a patience without effect: of a training that evaluates at its end alone, or never."""
    if patience is not None and not evaluates:
        raise UserError(
            f"trainer.patience={patience} can have no effect without evaluations to wait for: set data.val_split and "
            "trainer.eval_every, or trainer.patience=null"
        )


def check_metric(task: AnyTask, name: str, where: str) -> None:
    """Raise UserError, with the list of what there is, unless every evaluation of the task measures `name`."""
    known = task.metric_names()
    if name not in known:
        raise UserError(f"{where}={name} is not measured{among(name, known)}")
