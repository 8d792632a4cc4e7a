"""The best evaluation of a training so far, and for how long it has not been beaten."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.builder import nearest
from detkit.errors import UserError
from detkit.metric.evaluate import evaluate
from detkit.metric.records import GroundTruth, Predictions


@dataclass(frozen=True)
class Best:
    """value: the highest metric. step: when. since: evaluations after it that did not beat it."""

    value: float = -math.inf
    step: int = 0
    since: int = 0

    def after(self, value: float | None, step: int) -> Best:
        """The best including an evaluation at `step`; None is the value where nothing could be measured."""
        value = -math.inf if value is None else value
        beaten = value > self.value or self.step == 0
        return Best(value, step) if beaten else replace(self, since=self.since + 1)

    def is_stale(self, patience: int | None) -> bool:
        """Whether `patience` evaluations in a row did not beat it; null never gives up."""
        return patience is not None and self.since >= patience


def select_metric(metrics: Mapping[str, Any], name: str) -> float | None:
    """The number at a dotted name like voc.mAP_area; None where there was nothing to measure."""
    group, _, key = name.partition(".")
    return metrics[group][key]


def score_of(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> float | None:
    """The number of a finished training by which a sweeper of Hydra compares: its `trainer.best_metric`.

    None where there was nothing to measure on.
    """
    return select_metric(metrics, config["trainer"]["best_metric"]) if metrics else None


def check_metric(name: str, where: str) -> None:
    """Raise UserError, with the list of what there is, unless every evaluation measures `name`."""
    nothing: NDArray[Any] = np.zeros(0)
    metrics = evaluate(
        Predictions(image=nothing, boxes=nothing, scores=nothing, labels=nothing),
        GroundTruth(image=nothing, boxes=nothing, labels=nothing, num_images=0),
        ["any"],
    )
    known = [
        f"{group}.{key}"
        for group in ("voc", "coco")
        for key, value in metrics[group].items()
        if not isinstance(value, Mapping)
    ]
    if name not in known:
        raise UserError(f"{where}={name} is not measured{nearest(name, known)}")
