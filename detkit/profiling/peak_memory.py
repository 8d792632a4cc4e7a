"""Count parameters and FLOPs, and measure the peak memory of inference without the weights, in bytes."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detkit.profiling.speed import Pipeline, TimedImage

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


def count_parameters(model: nn.Module) -> int:
    """Numbers that are or could be learned; frozen norms, which are buffers, are not among them."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()  # in inference mode the counter does not see linear layers
def count_flops(pipeline: Pipeline, image: TimedImage) -> int:
    """Operations for one image, 2 for a multiply-add, of convolutions and matrix products; the rest is not counted."""
    batch = pipeline.read(image)
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        pipeline.detector.predict(batch)
    operations: int = counter.get_total_flops()
    return operations


def peak_memory(pipeline: Pipeline, images: Sequence[TimedImage]) -> int | None:
    """The bytes that the images take at the worst moment above what was held before them, so without the weights.

    On a GPU that of its allocator; on a CPU resident memory, None where the system does not let its peak be reset.
    """
    gc.collect()
    if pipeline.execution.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(pipeline.execution.device)
        before: int | None = torch.cuda.memory_allocated(pipeline.execution.device)
    else:
        before = _reset_peak()
    for image in images:
        pipeline(image)
    if before is None:
        return None
    if pipeline.execution.device.type == "cuda":
        return torch.cuda.max_memory_allocated(pipeline.execution.device) - before
    return max(0, _resident("VmHWM") - before)


def _reset_peak() -> int | None:
    """Give freed memory back, forget the peak so far; the bytes resident now, or None where that cannot be done."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else what an earlier model has freed is used again, unseen
        CLEAR.write_text("5")  # proc(5): resets the peak
        return _resident("VmRSS")
    except (OSError, AttributeError):
        return None


def _resident(name: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
