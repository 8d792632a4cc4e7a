from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from detkit.profiling import timing
from detkit.profiling.timing import StageTimer


class Nap(nn.Module):
    def __init__(self, seconds: float, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.seconds = seconds
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x if self.inner is None else self.inner(self.inner(x))


class Model(nn.Module):
    stages = ("first", "second", "second.inner", "absent.part")

    def __init__(self) -> None:
        super().__init__()
        self.first = Nap(0.01)
        self.second = Nap(0.02, Nap(0.03))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_exclusive_times_add_up_to_the_whole() -> None:
    model = Model()
    with StageTimer(model) as timer:
        start = time.perf_counter()
        model(torch.zeros(1))
        whole = time.perf_counter() - start
        stages = timer.take()
    assert list(stages) == ["first", "second", "second.inner"]
    assert sum(stages.values()) == pytest.approx(whole, abs=0.01)
    for name, seconds in {"first": 0.01, "second": 0.02, "second.inner": 0.06}.items():
        assert seconds <= stages[name] < seconds + 0.015


def test_calls_accumulate_until_taken_and_hooks_go_away() -> None:
    model = Model()
    with StageTimer(model) as timer:
        for _ in range(3):
            model.first(torch.zeros(1))
        assert timer.take()["first"] >= 0.03
        assert timer.take() == {"first": 0, "second": 0, "second.inner": 0}
    model(torch.zeros(1))
    assert timer.take()["first"] == 0
    assert not model.first._forward_hooks and not model.first._forward_pre_hooks


def test_a_stage_that_raises_does_not_spoil_the_next() -> None:
    model = Model()
    with StageTimer(model) as timer:
        model.second.inner.seconds = -1  # time.sleep raises
        with pytest.raises(ValueError, match="sleep"):
            model.second(torch.zeros(1))
        timer.take()
        model.second.inner.seconds = 0.01
        model(torch.zeros(1))
        assert 0.02 <= timer.take()["second"] < 0.03


def test_device_moments_are_read_only_after_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    class LazyClock:
        def __init__(self) -> None:
            self.ready = False
            self.ticks = 0

        def now(self) -> int:
            self.ticks += 1
            return self.ticks

        def between(self, start: int, end: int) -> float:
            assert self.ready
            return float(end - start)

        def wait(self) -> None:
            self.ready = True

    monkeypatch.setattr(timing, "clock_of", lambda model: LazyClock())
    model = Model()
    with StageTimer(model) as timer:
        model(torch.zeros(1))
        assert timer.take() == {"first": 1, "second": 3, "second.inner": 2}  # ticks 1-2, 3-8 around 4-5 and 6-7
