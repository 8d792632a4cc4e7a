"""Relate a detector's operations per second, by stage, to the machine's peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypedDict

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from detkit.infer.execution import Execution
from detkit.profiling.speed import Pipeline, TimedImage, Timing
from detkit.profiling.timing import clock_of

SIDE, TRIES = 1024, 7  # of the matrices whose product is the measure of the machine
TOP = 12  # operators that are listed


class Work(TypedDict):
    """What a stage computes of an image: 10^9 multiplications and additions, of convolutions and matrix products."""

    ms: float
    gflop: float


class Rate(Work, total=False):
    """Where there is something to compute, also how fast: gflops per second, of_peak as a share 0..1."""

    gflops: float
    of_peak: float


class Operator(TypedDict):
    """Milliseconds and calls of an operator, per image, itself alone."""

    name: str
    ms: float
    calls: float


class Profile(TypedDict):
    """How far a detector is from what the machine can do; operators: those of most time.

    peak_gflops: of a matrix product, per second.
    """

    peak_gflops: float
    stages: dict[str, Rate]
    total: Rate
    operators: list[Operator]


def profile_detector(pipeline: Pipeline, images: Sequence[TimedImage], timing: Timing) -> Profile:
    """What `timing`, on these images, means for the machine, and the operators behind it."""
    peak = matmul_peak(pipeline.execution)
    flops = stage_flops(pipeline, images[0])
    rows = {name: _rate(ms, flops.get(name, 0), peak) for name, ms in timing["stages_ms"].items()}
    return {
        "peak_gflops": peak / 1e9,
        "stages": rows,
        "total": _rate(timing["total_ms"]["mean"], sum(flops.values()), peak),
        "operators": top_operators(pipeline, images),
    }


def matmul_peak(execution: Execution) -> float:
    """Operations per second of the best of some products of two square matrices, 2 for a multiply-add."""
    left, right = (torch.randn(SIDE, SIDE, device=execution.device, dtype=execution.dtype) for _ in range(2))
    wait = clock_of(nn.ParameterList([left])).wait
    seconds = []
    for _ in range(TRIES + 1):  # the first warms up
        start = time.perf_counter()
        left @ right
        wait()
        seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(seconds[1:])


@torch.no_grad()  # in inference mode the counter does not see linear layers
def stage_flops(pipeline: Pipeline, image: TimedImage) -> dict[str, int]:
    """Operations of one image by stage of the detector, a stage within another left out of that."""
    detector = pipeline.detector
    modules = dict(detector.named_modules(remove_duplicate=False))
    stages = [name for name in detector.stages if name in modules]
    flops, begun, hooks = dict.fromkeys(stages, 0), dict.fromkeys(stages, 0), []
    batch = pipeline.read(image)
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:

        def begin(name: str) -> Callable[..., None]:
            return lambda *_: begun.__setitem__(name, counter.get_total_flops())

        def finish(name: str) -> Callable[..., None]:
            return lambda *_: flops.__setitem__(name, flops[name] + counter.get_total_flops() - begun[name])

        for name in stages:
            hooks += [
                modules[name].register_forward_pre_hook(begin(name)),
                modules[name].register_forward_hook(finish(name)),
            ]
        detector.predict(batch)
    for hook in hooks:
        hook.remove()
    return {
        name: own - sum(flops[inner] for inner in stages if inner.rpartition(".")[0] == name)
        for name, own in flops.items()
    }


def top_operators(pipeline: Pipeline, images: Sequence[TimedImage]) -> list[Operator]:
    """The operators that most time is spent in, itself: name, ms and calls per image."""
    on_gpu = pipeline.execution.device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=kinds) as recorded:
        for image in images:
            pipeline(image)
    events = recorded.key_averages()

    def microseconds(event: FunctionEventAvg) -> float:
        return event.self_device_time_total if on_gpu else event.self_cpu_time_total

    return [
        {"name": event.key, "ms": microseconds(event) / 1000 / len(images), "calls": event.count / len(images)}
        for event in sorted(events, key=microseconds, reverse=True)[:TOP]
    ]


def format_profile(found: Profile) -> str:
    """What `profile_detector` found, as text."""
    lines = [
        f"{'profile':<24}{'ms':>9}{'GFLOP':>9}{'GFLOP/s':>9}{'of peak':>9}"
        f"   (a matrix product: {found['peak_gflops']:.0f} GFLOP/s)"
    ]
    for name, row in (found["stages"] | {"total": found["total"]}).items():
        line = f"{name:<24}{row['ms']:>9.1f}"
        if row["gflop"]:
            line += f"{row['gflop']:>9.2f}{row['gflops']:>9.1f}{100 * row['of_peak']:>8.0f}%"
        lines.append(line)
    lines += ["", f"{'operator':<48}{'ms':>9}{'calls':>9}"]
    lines += [f"{row['name'][:47]:<48}{row['ms']:>9.2f}{row['calls']:>9.1f}" for row in found["operators"]]
    return "\n".join(lines)


def _rate(ms: float, flops: int, peak: float) -> Rate:
    row: Rate = {"ms": ms, "gflop": flops / 1e9}
    if flops and ms > 0:
        rate = 1000 * flops / ms
        row |= {"gflops": rate / 1e9, "of_peak": rate / peak}
    return row
