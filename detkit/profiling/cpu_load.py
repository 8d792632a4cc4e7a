"""Detect other work on the machine while something is timed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TypedDict

TASKS = Path("/proc/self/task")
NOTICED = 0.05  # the share of the time spent in wait for a core, from which on times are called too high


class Load(TypedDict):
    """The load of the machine during a time of work.

    waiting: the share of the time that a thread was ready to run and had no core. average: of the system's queue over
    the last minute, None where the system does not tell. busy: whether other work ran, so that times are too high.
    """

    waiting: float
    average: float | None
    cores: int
    busy: bool


class LoadWatch:
    """How long the threads of this process waited for a core since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time(), waits()

    def report(self) -> Load:
        """`load_of` since then."""
        started, used, before = self._start
        seconds, after = time.perf_counter() - started, waits()
        most = None
        if before is not None and after is not None:
            most = max((wait - before.get(thread, 0.0) for thread, wait in after.items()), default=0.0)
        average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return load_of(seconds, time.process_time() - used, most, average, cores())


def load_of(seconds: float, cpu_seconds: float, waited: float | None, average: float | None, cores: int) -> Load:
    """The load during a time of work.

    waited: the most seconds that one thread was ready to run and had no core; None where the system does not tell:
    then what the process did not compute of that time counts, where more wants to run than there are cores.
    average: as in `Load`.
    """
    if waited is None:
        crowded = average is not None and average > cores
        waited = max(0.0, seconds - cpu_seconds) if crowded else 0.0
    waiting = round(waited / seconds, 4) if seconds > 0 else 0.0
    known = None if average is None else round(average, 2)
    return {"waiting": waiting, "average": known, "cores": cores, "busy": waiting > NOTICED}


def describe_load(load: Load | None) -> str:
    """A line for the reader of the times; "" where the machine was quiet."""
    if not load or not load["busy"]:
        return ""
    queue = "" if load["average"] is None else f" (load {load['average']:.1f} on {load['cores']} cores)"
    return f"other work ran meanwhile{queue}: {100 * load['waiting']:.0f} % of the time was waiting, times are too high"


def waits() -> dict[str, float] | None:
    """Seconds that each thread of this process was ready to run and had no core; None where the system is silent."""
    found = {}
    try:
        for task in TASKS.iterdir():
            fields = (task / "schedstat").read_text().split()
            found[task.name] = int(fields[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None
    return found if any(found.values()) else None  # kernels that do not count say 0


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
