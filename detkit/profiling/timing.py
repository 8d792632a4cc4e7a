"""Time the stages of a model by forward hooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias, TypeVar

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from detkit.model.detector import Detector

Name = TypeVar("Name")
Moment: TypeAlias = "float | torch.cuda.Event"  # in seconds on a CPU; of its stream on a GPU


@dataclass
class _Visit:
    """One forward of one stage. end: its start, until it has ended. inside: the stages that ran within it."""

    stage: str
    start: Moment
    end: Moment
    inside: list[_Visit] = field(default_factory=list)


class StageTimer:
    """Times the forward of each of `model.stages` inside a `with` block, by hooks that are gone after it.

    A stage within another is not counted twice: the outer one reports what is left. Forwards of one stage add up.
    Names of `model.stages` that this model has no module for are left out. On a GPU the moments are events of the
    stream; it is waited for only in `take`.
    """

    def __init__(self, model: Detector) -> None:
        modules = dict(model.named_modules(remove_duplicate=False))
        self._modules = {name: modules[name] for name in model.stages if name in modules}
        self._clock = clock_of(model)
        self._visits: list[_Visit] = []
        self._open: list[_Visit] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> StageTimer:
        for stage, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._begin(stage)))
            self._handles.append(module.register_forward_hook(self._finish, always_call=True))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._open.clear()

    @property
    def stages(self) -> list[str]:
        """The stages that are timed."""
        return list(self._modules)

    def take(self) -> dict[str, float]:
        """Seconds by stage, exclusive, of everything since the last call; stages that did not run have 0."""
        seconds = dict.fromkeys(self._modules, 0.0)
        if self._visits:
            self._clock.wait()
        for visit in self._visits:
            whole = self._clock.between(visit.start, visit.end)
            seconds[visit.stage] += whole - sum(self._clock.between(one.start, one.end) for one in visit.inside)
        self._visits.clear()
        return seconds

    def _begin(self, stage: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object) -> None:
            now = self._clock.now()
            visit = _Visit(stage, now, now)
            if self._open:
                self._open[-1].inside.append(visit)
            self._open.append(visit)

        return hook

    def _finish(self, module: nn.Module, inputs: object, output: object) -> None:
        visit = self._open.pop()
        visit.end = self._clock.now()
        self._visits.append(visit)


class CpuClock:
    """Moments of this process."""

    def now(self) -> float:
        return time.perf_counter()

    def between(self, start: Moment, end: Moment) -> float:
        assert not isinstance(start, torch.cuda.Event) and not isinstance(end, torch.cuda.Event)
        return end - start

    def wait(self) -> None:
        pass


class CudaClock:
    """Moments of the current stream of a GPU, which runs behind this process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def between(self, start: Moment, end: Moment) -> float:
        assert isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event)
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1000

    def wait(self) -> None:
        torch.cuda.synchronize(self._device)


def clock_of(model: nn.Module) -> CpuClock | CudaClock:
    """The clock of the device that the model is on."""
    tensor = next(model.parameters(), next(model.buffers(), None))
    return CudaClock(tensor.device) if tensor is not None and tensor.is_cuda else CpuClock()


def interleaved_ms(runs: Mapping[Name, Callable[[], object]], repeats: int) -> dict[Name, float]:
    """Median milliseconds of each, in turn, so that whatever else the machine does meets all; each runs once before."""
    taken: dict[Name, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: median(times) for name, times in taken.items()}
