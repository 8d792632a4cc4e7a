from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fake_detector import fake_config

from detkit.checkpoint.content import Checkpoint
from detkit.core import interrupt
from detkit.core.interrupt import Interrupted, answered_at_once, answered_later
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.train.train import train

STEPS = ("trainer.budget=9it", "trainer.eval_every=4it", "trainer.deterministic=true", "logger.every=1")


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """A shell that starts pytest in the background, or nohup, has it and its children ignore some signals."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def last(run: Path) -> Checkpoint:
    return load_checkpoint(run / "checkpoints" / "last.pt")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_training_after_its_step(
    tiny_voc: Path, tmp_path: Path, run_fake: Callable, number: signal.Signals, code: int
) -> None:
    stopped = run_fake(tiny_voc, tmp_path / "run", *STEPS, "loader.num_workers=1", signalled=(3, number))
    assert stopped.returncode == code, stopped.stderr
    assert f"to go on: detkit train resume={tmp_path / 'run'}" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert last(tmp_path / "run").step == 3
    if number == signal.SIGTERM:
        train(fake_config(tiny_voc, tmp_path / "run", *STEPS, "resume=true"))
        train(fake_config(tiny_voc, tmp_path / "whole", *STEPS))
        one, other = last(tmp_path / "run"), last(tmp_path / "whole")
        assert all(torch.equal(one.model[name], other.model[name]) for name in one.model)
        assert one.training.best == other.training.best


def test_an_evaluation_that_was_interrupted_is_made_up_for(tiny_voc: Path, tmp_path: Path, run_fake: Callable) -> None:
    steps = ("trainer.budget=2it", "trainer.eval_every=null")
    stopped = run_fake(tiny_voc, tmp_path / "run", *steps, signalled=(0, signal.SIGTERM))
    assert stopped.returncode == 143, stopped.stderr
    assert last(tmp_path / "run").position.unevaluated and last(tmp_path / "run").training.best["step"] == 0
    train(fake_config(tiny_voc, tmp_path / "run", *steps, "resume=true"))
    assert last(tmp_path / "run").training.best["step"] == 2 and not last(tmp_path / "run").position.unevaluated


@pytest.mark.slow
def test_two_processes_end_after_the_same_step(tiny_voc: Path, tmp_path: Path, run_fake: Callable) -> None:
    # each sends itself the signal in its third step, and torchrun may send another to all when the first has ended
    stopped = run_fake(tiny_voc, tmp_path / "run", *STEPS, processes=2, signalled=(3, signal.SIGTERM))
    assert stopped.returncode != 0
    assert stopped.stderr.count("to go on: detkit train resume=") == 1, stopped.stderr
    assert last(tmp_path / "run").step == 3 and last(tmp_path / "run").processes == 2


def test_a_second_signal_counts_only_when_it_is_another_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    with answered_later() as asked:
        assert not asked
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # torchrun passes on what the terminal has sent already
        assert asked and asked.number == signal.SIGTERM
        monkeypatch.setattr(interrupt, "ONE_PRESS", 0.0)
        time.sleep(0.01)
        with pytest.raises(Interrupted, match="SIGINT"):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with answered_at_once():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            with pytest.raises(Interrupted) as end:
                signal.raise_signal(signal.SIGTERM)
        assert end.value.exit_code == 143
    finally:
        signal.signal(signal.SIGHUP, before)


CHILD = """
import time
from detkit.core.interrupt import leave_to_parent
leave_to_parent()
print("ready", flush=True)
time.sleep(9)
"""


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="no sigwaitinfo here")
def test_a_worker_ends_by_its_parent_alone() -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    try:
        child.send_signal(signal.SIGINT)
        subprocess.run(
            [sys.executable, "-c", f"import os; os.kill({child.pid}, 15); os.kill({child.pid}, 1)"], check=True
        )
        time.sleep(0.2)
        assert child.poll() is None
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(10) == 0
    finally:
        child.kill()
