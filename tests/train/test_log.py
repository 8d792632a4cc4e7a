from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from detkit.run.budget import Duration, Progress
from detkit.train.log import RunLog, Window, clock


def test_window_means() -> None:
    window = Window()
    assert window.means() == {}
    window.add({"loss/box": 1.0}, images=4, seconds=1.0, waited=0.5)
    window.add({"loss/box": 3.0}, images=4, seconds=3.0, waited=0.5)
    assert window.means() == {
        "train/loss/box": 2.0, "time/step_s": 2.0, "time/data_wait": 0.25, "time/images_per_s": 2.0,
    }  # fmt: skip
    window.clear()
    assert window.means() == {}


def open_log(folder: Path, step: int, silent: bool = False) -> RunLog:
    budget = Duration.parse("9it", "k", Fraction(1))
    return RunLog(folder, budget, Progress(step), every=1, tensorboard=False, pictures=2, bar=True, silent=silent)


def test_a_resumed_log_has_every_step_once(tmp_path: Path) -> None:
    with open_log(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write("train", step / 9, Progress(step, step / 7), {"train/lr": 0.1})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "epo')  # killed while writing
    with open_log(tmp_path, 2) as log:
        log.write("train", 3 / 9, Progress(3), {"train/lr": 0.2})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["train/lr"]) for row in rows] == [(1, 0.1), (2, 0.1), (3, 0.2)]


def test_a_silent_log_says_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_log(tmp_path, 0, silent=True) as log:
        log.message("hello")
        log.write("train", 0.1, Progress(1), {})
        log.show(0.1, Progress(1), {})
    assert capsys.readouterr() == ("", "") and not list(tmp_path.iterdir())


def test_progress_off_a_terminal_is_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_log(tmp_path, 0) as log:
        for step in (3, 4):
            values = {"train/loss/box": 0.5, "time/images_per_s": 8.0, "time/data_wait": 0.1}
            log.show(0.3, Progress(step, 30.0), values)
    (line,) = capsys.readouterr().err.splitlines()  # the second came within half a minute
    assert line == "epoch 0.30 step 3 33% box 0.500 | 8.0 img/s, wait 10%, left 1:00"


def test_clock() -> None:
    assert [clock(value) for value in (0, 59.6, 125, 3723, float("inf"))] == ["0:00", "1:00", "2:05", "1:02:03", "?"]
