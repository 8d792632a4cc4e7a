"""Commands: words, verbs, flags, sweeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from doors import QUICK, Door

ROOT = Path(__file__).resolve().parents[2]


def module(*arguments: str):
    """act: runs `python -m detkit` in a process of its own."""

    def act(folder: Path) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "detkit", *arguments],
            cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return act


def two_of_three_runs(folder: Path, output: str) -> None:
    assert len(list(folder.glob("sweep/*/metrics.json"))) == 2
    assert output.count("the other jobs go on") == 1


SWEEP = f"train {QUICK} data=voc data.root=D hydra.sweep.dir=sweep"
DOORS = [
    Door("a verb that does not exist", "", "trian", 2, "no command trian; did you mean train?"),
    Door(
        "a key of another place", "", "train trainer.bugdet=5min", 2,
        "no key trainer.bugdet; did you mean trainer.budget?",
    ),
    Door("the package as a module", "", "--version", 0, "detkit 0.", "ultralytics #6281", act=module("--version")),
    Door(
        "a module with a verb that does not exist", "", "trian", 2, "did you mean train?", act=module("trian"),
    ),
    Door(
        "tab completion", "", "train -sc install=bash", 0, "complete", "hydra",
    ),
    Door(
        "a flag after an override", "", "train seed=1 --cfg job", 0, "seed: 1", "hydra #3053",
    ),
    Door(
        "a sweep of which one run fails", "D", f"{SWEEP} trainer.accumulate=1,0,2 -m", 2,
        "trainer.accumulate=0: must be a whole number at least 1\nfailed:", "hydra PR #3133",
        needs=("D",), check=two_of_three_runs,
    ),
    Door(
        "a patience that can have no effect", "D",
        f"train {QUICK} data=voc data.root=D data.val_split=null trainer.patience=2", 2,
        "trainer.patience=2 can have no effect", "ultralytics #22819", needs=("D",),
    ),
    Door(
        "a GPU where there is none", "", "train device=mps data=voc data.root=x", 2, "device=mps", "ultralytics",
    ),
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.kind)
def test_door(door, walk):
    walk(door)
