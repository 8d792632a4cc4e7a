from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from detkit.checkpoint.content import Checkpoint, Position, TrainingState
from detkit.core.errors import UserError
from detkit.data.loader import ResumableBatchSampler
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.run.budget import Duration, Progress
from detkit.run.resume import continued, position_of

ONE, TWO = (f"detkit.model.{name}_stage.build_{name}_stage" for name in ("one", "two"))
RUN = {
    "seed": 3, "resume": None, "device": "cpu", "optimizer": {"lr": 0.1}, "model": {"_target_": ONE},
    "trainer": {"budget": "2ep", "ema": None}, "data": {"root": "here", "classes": None},
}  # fmt: skip
DEFAULTS = {
    "seed": 0, "resume": "RUN", "device": "auto", "optimizer": {"lr": 0.5}, "model": {"_target_": TWO},
    "trainer": {"budget": "9ep", "ema": None, "freeze": []}, "data": {"root": "drawn", "classes": None},
}  # fmt: skip


def saved(processes: int = 1, **changes: Any) -> Checkpoint:
    """What that many processes have saved."""
    state = TrainingState(optimizer={}, scaler={}, rng=[{}] * processes, metrics={}, best={})
    return Checkpoint(model={}, config=RUN, classes=[], preprocess={}, training=state, **changes)


def go_on(said: list[str] | None) -> dict:
    return OmegaConf.to_container(continued(OmegaConf.create(DEFAULTS), saved(), Path("RUN"), said))  # type: ignore


def test_what_the_command_does_not_say_is_as_in_the_run() -> None:
    found = go_on(["resume"])
    assert found == {**RUN, "resume": "RUN", "trainer": {**RUN["trainer"], "freeze": []}}  # type: ignore[dict-item]


def test_what_may_differ_is_as_the_command_says() -> None:
    found = go_on(["resume", "trainer.budget", "device", "data.root"])
    assert found["trainer"]["budget"] == "9ep" and found["device"] == "auto" and found["data"]["root"] == "drawn"
    assert found["seed"] == 3 and found["optimizer"] == {"lr": 0.1}


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("optimizer.lr", "optimizer.lr=0.5 (was 0.1)"),
        ("model", f"model._target_={TWO} (was {ONE})"),
        ("seed", "seed=0 (was 3)"),
    ],
)
def test_what_must_not_differ_is_named_alone(said: str, named: str) -> None:
    with pytest.raises(UserError) as error:
        go_on(["resume", said, "trainer.budget"])
    assert f"saved by: {named}\n" in str(error.value)
    assert "trainer.budget" in str(error.value)  # as one that may


def test_an_experiment_says_all() -> None:
    assert go_on(None) == DEFAULTS


@pytest.mark.parametrize(("before", "now"), [(2, 1), (1, 2), (2, 3), (4, 2)])
@pytest.mark.parametrize("had", [0, 1, 3])
def test_other_processes_leave_no_image_out(before: int, now: int, had: int) -> None:
    def batches(processes: int, rank: int) -> list[list[int]]:
        sampler = ResumableBatchSampler(24, 2, seed=0, shuffle=True, rank=rank, world_size=processes)
        return [[key[0] for key in keys] for keys in sampler]

    done = [image for rank in range(before) for batch in batches(before, rank)[:had] for image in batch]
    epoch, first = position_of(saved(before, position=Position(batch=had)), now)
    left = [image for rank in range(now) for batch in batches(now, rank)[first:] for image in batch]
    assert epoch == 0 and set(done) | set(left) == set(range(24))
    assert len(done) + len(left) - 24 <= 2 * (now - 1)  # those that come twice


def test_a_budget_in_epochs_counts_the_epochs_done() -> None:
    # 10 steps of two processes, 20 to an epoch, are half of it; alone they would be 20 of 40
    budget = Duration.parse("2ep", "k", Fraction(40), ahead=Fraction(10))
    assert budget.passed(Progress(10)) == 0.25 and budget.passed(Progress(70)) == 1
    assert Duration.parse("20it", "k", Fraction(40), ahead=Fraction(10)).passed(Progress(10)) == 0.5


@pytest.mark.slow
def test_goes_on_with_another_number_of_processes(tiny_voc: Path, tmp_path: Path, run_fake: Callable) -> None:
    common = ("trainer.budget=2ep", "loader.batch_size=1", "logger.every=1", "trainer.save_every=2it")
    died = run_fake(tiny_voc, tmp_path / "run", *common, processes=2, dies_in=4)
    assert died.returncode != 0
    done = run_fake(tiny_voc, tmp_path / "run", *common, "resume=true")
    assert done.returncode == 0, done.stderr
    assert "saved by 2 processes, goes on with 1" in done.stderr and "1 batches of 1 in place of 2" in done.stderr
    last = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    # 2 steps took 4 of 7 images: 3 and another 7 are left
    assert last.step == 2 + 3 + 7 and last.processes == 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["epoch"] == 2.0
