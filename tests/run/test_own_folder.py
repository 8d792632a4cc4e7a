from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from detkit.commands import cli
from detkit.core.errors import UserError
from detkit.run import own_folder as module
from detkit.run.own_folder import EVALUATION, PREDICTIONS, RUN, own_folder

HOLDER = """
import sys, time
from pathlib import Path
from detkit.run.own_folder import RUN, own_folder
with own_folder(Path(sys.argv[1]), RUN):
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that owns tmp_path/run."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() == b"mine\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_has_one_owner_until_its_process_is_gone(tmp_path: Path, holder: subprocess.Popen) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="another process is at work there"), own_folder(folder, RUN, goes_on=True):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with own_folder(folder, RUN) as own:  # what is left of the lock keeps nobody out
        (own / "config.yaml").touch()
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


def test_a_folder_named_by_the_time_gives_way(
    tmp_path: Path, holder: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "named_by_time", lambda folder: True)
    with own_folder(tmp_path / "run", RUN) as own:
        assert own == tmp_path / "run_2"
        (own / "config.yaml").touch()
    with own_folder(tmp_path / "run", RUN) as own:
        assert own == tmp_path / "run_3"
    assert not (tmp_path / "run_3").exists()  # nothing was written


@pytest.mark.parametrize(
    ("there", "kind", "refused"),
    [
        ("config.yaml", RUN, "holds a run"),
        ("checkpoints", RUN, "holds a run"),
        ("metrics.jsonl", EVALUATION, "holds a run, and its metrics.jsonl"),
        ("compare.json", EVALUATION, "holds a comparison"),
        ("metrics.json", RUN, "holds an evaluation"),
        ("metrics.json", PREDICTIONS, "holds an evaluation"),
        ("predictions.json", EVALUATION, "holds predictions"),
        ("metrics.json", EVALUATION, None),  # the newer one was asked for
        ("predictions.json", PREDICTIONS, None),
        ("notes.txt", RUN, None),
    ],
)
def test_what_is_there_is_not_overwritten(tmp_path: Path, there: str, kind: str, refused: str | None) -> None:
    (tmp_path / there).touch()
    if refused is None:
        with own_folder(tmp_path, kind) as own:
            assert own == tmp_path
    else:
        with pytest.raises(UserError, match=refused), own_folder(tmp_path, kind):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [there]
    if kind == RUN and refused == "holds a run":
        with own_folder(tmp_path, kind, goes_on=True):
            pass


def test_the_folder_that_the_user_is_in_stays(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert cli.main(["check_data", "data=voc", "data.root=nowhere"]) == 2
    assert (tmp_path / "empty").is_dir()
