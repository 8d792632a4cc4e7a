from __future__ import annotations

import math

import pytest

from detkit.core.errors import UserError
from detkit.task.base import select
from detkit.task.detection.task import DetectionTask
from detkit.train.best_score import Best, check_metric


def test_only_a_higher_value_is_better() -> None:
    best = Best().after(0.2, 10).after(0.2, 20).after(0.1, 30)
    assert best == Best(0.2, 10, since=2)
    assert best.is_stale(2) and not best.is_stale(3) and not best.is_stale(None)
    assert best.after(0.3, 40) == Best(0.3, 40, since=0)


def test_the_latest_counts_as_long_as_nothing_could_be_measured() -> None:
    unmeasured = Best().after(None, 5).after(math.nan, 6).after(None, 7)
    assert unmeasured == Best(step=7) and not unmeasured.is_stale(1)
    assert unmeasured.describe() == "nothing could be measured: the latest weights count, those of step 7"
    assert unmeasured.after(0.0, 8) == Best(0.0, 8) and Best(0.0, 8).describe() == "best at step 8"
    assert Best().after(0.0, 5).after(None, 6) == Best(0.0, 5, since=1)


def test_metric_names() -> None:
    check_metric(DetectionTask(), "coco.AP75", "k")
    assert select({"coco": {"AP75": 0.3}}, "coco.AP75") == 0.3
    with pytest.raises(UserError, match=r"trainer.best_metric=coco.AP_75 is not measured; did you mean 'coco.AP75'"):
        check_metric(DetectionTask(), "coco.AP_75", "trainer.best_metric")
