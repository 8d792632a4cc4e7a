from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from detkit.profiling import cpu_load as load
from detkit.profiling.cpu_load import LoadWatch, describe_load, load_of


def test_a_quiet_machine_raises_no_alarm() -> None:
    assert not load_of(10.0, 19.5, 0.02, 0.9, 2)["busy"]
    assert not load_of(10.0, 9.9, 0.3, 3.5, 2)["busy"]  # its own training a minute ago is in the average
    assert not load_of(10.0, 2.0, 0.1, 0.5, 2)["busy"]  # it waited for a disk
    assert not load_of(10.0, 2.0, None, 1.5, 2)["busy"]
    assert not load_of(0.0, 0.0, 0.0, None, 2)["busy"]
    assert describe_load(load_of(10.0, 9.9, 0.3, 3.5, 2)) == "" and describe_load(None) == ""


def test_other_work_is_noticed_and_said() -> None:
    found = load_of(10.0, 4.8, 5.2, 3.14, 2)
    assert found == {"waiting": 0.52, "average": 3.14, "cores": 2, "busy": True}
    assert describe_load(found) == (
        "other work ran meanwhile (load 3.1 on 2 cores): 52 % of the time was waiting, times are too high"
    )
    assert load_of(10.0, 4.0, None, 5.0, 2)["waiting"] == 0.6  # where the system counts no waits


@pytest.mark.slow
@pytest.mark.skipif(load.waits() is None or not hasattr(os, "sched_setaffinity"), reason="no schedstat here")
def test_two_that_share_a_core_wait_half_of_the_time() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    other = subprocess.Popen(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile os.getppid() != 1: pass"]
    )
    try:
        os.sched_setaffinity(0, {core})
        time.sleep(0.3)
        watch, end = LoadWatch(), time.perf_counter() + 2
        while time.perf_counter() < end:
            pass
        found = watch.report()
    finally:
        other.kill()
        other.wait()
        os.sched_setaffinity(0, before)
    assert found["busy"] and found["waiting"] > 0.25 and found["cores"] == 1
