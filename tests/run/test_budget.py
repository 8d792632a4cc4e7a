from __future__ import annotations

from fractions import Fraction

import pytest

from detkit.core.errors import UserError
from detkit.run.budget import Duration, Progress, is_due, parse_optional


@pytest.mark.parametrize(
    ("text", "total"),
    [("20ep", 600), ("0.5ep", 15), ("3000it", 3000), ("90s", 90), ("10min", 600), ("2h", 7200), (" 1.5 h ", 5400)],
)
def test_lengths(text: str, total: float) -> None:
    assert Duration.parse(text, "trainer.budget", Fraction(30)).total == total


@pytest.mark.parametrize("text", ["", "10", "ep", "10 epochs", "-3it", "0ep", "1e3it", None])
def test_nonsense_is_named_with_its_key(text: object) -> None:
    with pytest.raises(UserError, match=r"trainer\.budget="):
        Duration.parse(text, "trainer.budget")


def test_steps_are_counted_exactly() -> None:
    # 0.1 * 30 is a little more than 3 in floating point
    tenth = Duration.parse("0.1ep", "k", Fraction(30))
    assert tenth.passed(Progress(step=3)) == 1.0
    assert tenth.passed(Progress(step=2)) < 1


def test_time_counts_seconds_and_not_steps() -> None:
    minute = Duration.parse("1min", "k")
    assert minute.timed
    assert minute.passed(Progress(step=10**6, seconds=30.0)) == 0.5


def test_a_period_is_due_once_at_its_end() -> None:
    period = Duration.parse("1ep", "k", Fraction(5, 2))  # 2.5 steps: due at steps 3, 5, 8, 10
    due = [step for step in range(1, 11) if is_due(period, Progress(step - 1), Progress(step))]
    assert due == [3, 5, 8, 10]
    assert not is_due(None, Progress(0), Progress(100))
    assert parse_optional(None, "k", Fraction(1)) is None
