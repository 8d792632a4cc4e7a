"""Tab completion, as bash itself asks for it, and the words that may stand where a line ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detkit.commands import cli
from detkit.config.completion import candidates

ROOT = Path(cli.__file__).resolve().parents[2]
CONFIGS = {name: verb.config for name, verb in cli.VERBS.items()}


def complete(line: str) -> list[str]:
    return candidates(line, CONFIGS, str(ROOT / "configs"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("detkit ", sorted(cli.VERBS)),
        ("detkit fit", ["fit_anchors", "fit_svm"]),
        ("detkit trian ", []),
        ("detkit train trainer.bu", ["trainer.budget="]),
        ("detkit train -m seed=1 trainer.bu", ["trainer.budget="]),
        ("detkit train seed=1 -m trainer.bu", ["trainer.budget="]),
        ("detkit train model=ssd3", ["model=ssd300"]),
        ("detkit train model=yolox model/nec", ["model/neck="]),
        ("detkit train experiment=mod", ["experiment=modern/"]),
        ("detkit train experiment=modern/ssd", ["experiment=modern/ssd_bccd"]),
        ("detkit train --mul", ["--multirun"]),
        ("detkit train nokey=1 trainer.bu", []),
        ("detkit predict checkpoint=", []),  # which leaves it to bash: files
    ],
)
def test_what_may_follow(line, words):
    assert complete(line) == words


def test_a_group_of_the_users_own_folder_is_completed(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "cells.yaml").write_text("# @package _global_\nseed: 1\n")
    assert complete(f"detkit train --config-dir {tmp_path} experiment=ce") == ["experiment=cells"]


def test_another_shell_is_told_which_one_there_is(capsys):
    assert cli.main(["train", "-sc", "install=fish"]) == 2
    assert "install=bash" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_after_eval(tmp_path):
    command = tmp_path / "detkit"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m detkit "$@"\n')
    command.chmod(0o755)
    script = """
eval "$(detkit train -sc install=bash)"
ask() { COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=(detkit); _detkit; echo "${COMPREPLY[*]}"; }
ask "detkit tr"; ask "detkit train model=ssd"
complete -p detkit
eval "$(detkit -sc uninstall=bash)"
complete -p detkit
"""
    own = {"PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]]), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(["bash", "-c", script], env={**os.environ, **own}, capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    assert lines[0].split() == ["train", "truncate_svd"]
    assert lines[1].split() == ["ssd300", "ssd512", "ssd_light", "ssdlite"]  # what stands before = bash has already
    assert len(lines) == 3 and "-F _detkit detkit" in lines[2]
    assert "no completion specification" in ran.stderr
