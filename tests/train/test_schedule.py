from __future__ import annotations

from functools import partial

import pytest

from detkit.core.errors import UserError
from detkit.train.schedule import Schedule, constant, cosine, multistep


def test_cosine_falls_from_one_to_its_end() -> None:
    curve = partial(cosine, end=0.1)
    values = [curve(step / 10, step) for step in range(11)]
    assert values[0] == 1 and values[-1] == pytest.approx(0.1) and values[5] == pytest.approx(0.55)
    assert values == sorted(values, reverse=True)
    assert curve(1.5, 15) == pytest.approx(0.1)


def test_multistep_takes_fractions_and_steps() -> None:
    curve = partial(multistep, milestones=[0.5, 80], gamma=0.1)
    assert [curve(step / 100, step) for step in (0, 49, 50, 79, 80)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_warmup_rises_in_steps_or_by_share() -> None:
    steps = Schedule(curve=constant, warmup=4, warmup_start=0.2)
    assert [steps.factor(0, step) for step in range(5)] == pytest.approx([0.4, 0.6, 0.8, 1, 1])
    share = Schedule(curve=constant, warmup=0.5)
    assert [share.factor(progress, 0) for progress in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0, 0.5, 1, 1])
    assert Schedule(curve=constant).factor(0, 0) == 1


def test_warmup_multiplies_the_curve() -> None:
    assert Schedule(curve=cosine, warmup=10).factor(0.5, 4) == pytest.approx(0.5 * 0.5)


def test_negative_warmup_is_refused() -> None:
    with pytest.raises(UserError, match=r"schedule\.warmup=-1"):
        Schedule(curve=constant, warmup=-1)
