"""A folder of its own for every door, and what is in it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from doors import QUICK, Door

from detkit.commands import cli


@pytest.fixture(scope="session")
def drawn_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`D`: six training images, three to validate, three to test on, in VOC layout."""
    root = tmp_path_factory.mktemp("doors") / "D"
    assert cli.main(["make_synthetic", f"root={root}", "num_train=6", "num_val=3", "num_test=3", "size=[96,128]"]) == 0
    return root


@pytest.fixture(scope="session")
def finished_run(drawn_set: Path) -> Path:
    """`RUN`: two steps on `D`."""
    run = drawn_set.parent / "RUN"
    command = ["train", *shlex.split(QUICK), "data=voc", f"data.root={drawn_set}", "data.test_split=test"]
    assert cli.main([*command, f"hydra.run.dir={run}"]) == 0
    return run


@pytest.fixture
def walk(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[[Door], str]:
    """walk(door): go through a door, hold its answer against what it should be, return the output."""

    def through(door: Door) -> str:
        for name, fixture in (("D", "drawn_set"), ("RUN", "finished_run")):
            if name in door.needs:
                shutil.copytree(request.getfixturevalue(fixture), tmp_path / name)
        monkeypatch.chdir(tmp_path)
        if door.make is not None:
            door.make(tmp_path)
        capfd.readouterr()
        if door.act is not None:
            code, told = door.act(tmp_path)
        else:
            code, told = cli.main(shlex.split(door.command.replace("QUICK", QUICK))), ""
        captured = capfd.readouterr()
        output = told + captured.out + captured.err
        assert "Traceback" not in output, output
        assert code == door.code, output
        for line in door.says.split("\n"):
            assert line.strip() in output, f"no {line!r} in:\n{output}"
        if door.check is not None:
            door.check(tmp_path, output)
        return output

    return through
