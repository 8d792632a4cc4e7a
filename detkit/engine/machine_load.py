"""Whether the machine had other work while something was timed, which makes the times too high."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

FULL_SHARE = 0.85  # of the wall clock; alone, the thread that runs a detector on a CPU has the processor all the time


def start_load_meter() -> Callable[[], dict[str, Any]]:
    """Start to watch this thread; the function returned gives `judge_load` of the time since."""
    wall, cpu = time.perf_counter(), time.thread_time()

    def read() -> dict[str, Any]:
        share = (time.thread_time() - cpu) / max(time.perf_counter() - wall, 1e-9)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return judge_load(share, load, os.cpu_count() or 1)

    return read


def judge_load(cpu_share: float, load: float | None, cores: int) -> dict[str, Any]:
    """JSON-ready: what was seen, and `busy`: whether other work took the processor away.

    cpu_share: of the wall clock in which the timed thread had a processor; waiting for a disk or a GPU lowers it too.
    load: the system's average of runnable tasks over the last minute, None where unknown. So a low share counts where
    more tasks than cores were runnable.
    """
    busy = cpu_share < FULL_SHARE and (load is None or load > cores)
    return {
        "cpu_share": round(cpu_share, 3),
        "load_average": None if load is None else round(load, 2),
        "cores": cores,
        "busy": busy,
    }


def describe_load(load: dict[str, Any]) -> str:
    """The line for a table of times; empty where nothing else ran."""
    if not load.get("busy"):
        return ""
    average = "" if load["load_average"] is None else f", load {load['load_average']:.1f} on {load['cores']} cores"
    return f"other work ran meanwhile (the processor was ours {load['cpu_share']:.0%} of the time{average}): too high"
