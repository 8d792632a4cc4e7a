"""A data set of a few drawn images, and the fake detector that trains on it in no time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from noise_voc import write_voc

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums come out alike here and in the processes that `run_fake` starts, and no test waits for another's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits train (7 images, one of them empty) and val (3) of the classes dot and bar."""
    root = tmp_path_factory.mktemp("tiny_voc")
    rows = {
        f"t{i}": [("dot", (3 + i, 4, 20 + i, 30), False), ("bar", (20, 5 + i, 40, 30 + i), False)] for i in range(6)
    }
    write_voc(root, {**rows, "t6": []}, "train", size=(40, 48))
    return write_voc(root, {f"v{i}": [("dot", (2, 2 + i, 25, 30), False)] for i in range(3)}, "val", size=(40, 48))


@pytest.fixture(scope="session")
def run_fake() -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_fake(root, run_dir, *overrides, processes=1, dies_in=None, signalled=None): trains the fake, in processes.

    dies_in: the step in which it is killed. signalled: the step in which it sends itself a signal, and which. Neither
    is a part of its config, so that who goes on from there does not end too.
    """

    def run(
        *arguments: Any, processes: int = 1, dies_in: int | None = None, signalled: tuple[int, int] | None = None
    ) -> subprocess.CompletedProcess[str]:
        launcher = [sys.executable]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [*launcher, str(HERE / "fake_detector.py"), *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
        environment |= {} if dies_in is None else {"FAKE_DIES_IN": str(dies_in)}
        if signalled is not None:
            environment |= {"FAKE_SIGNALLED_IN": str(signalled[0]), "FAKE_SIGNAL": str(int(signalled[1]))}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)

    return run
