"""The best evaluation of a training so far, and for how long it has not been beaten."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from detkit.errors import UserError


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
    """The number at a dotted name like voc.mAP_area. Raises UserError listing what there is."""
    node: Any = metrics
    for word in name.split("."):
        if not isinstance(node, Mapping) or word not in node:
            known = [
                f"{group}.{key}"
                for group in ("voc", "coco")
                for key, value in metrics.get(group, {}).items()
                if not isinstance(value, Mapping)
            ]
            raise UserError(f"trainer.best_metric={name} is not measured; choose one of {', '.join(known)}")
        node = node[word]
    return node
