"""Config files of one's own are read like the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from doors import Door

GLOBAL = "# @package _global_\n"


def experiment(text: str, name: str = "cells"):
    """make: writes mine/experiment/<name>.yaml."""

    def make(folder: Path) -> None:
        path = folder / "mine" / "experiment" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)

    return make


def data_option(text: str):
    """make: writes mine/data/cells.yaml."""

    def make(folder: Path) -> None:
        (folder / "mine" / "data").mkdir(parents=True)
        (folder / "mine" / "data" / "cells.yaml").write_text(text)

    return make


def nothing_is_left(folder: Path, output: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["mine"]


MINE = "train --config-dir mine experiment=cells"
DOORS = [
    Door(
        "a mistyped key", "trainer: {bugdet: 1it}", MINE, 2,
        "mine/experiment/cells.yaml: no key trainer.bugdet; did you mean trainer.budget?", "OpenMHC #14",
        make=experiment(f"{GLOBAL}trainer: {{bugdet: 1it}}\n"), check=nothing_is_left,
    ),
    Door(
        "a mistyped key of the data", "data: {train_spilt: val}", MINE, 2,
        "no key data.train_spilt; did you mean data.train_split?", "hydra #1951",
        make=experiment(f"{GLOBAL}data: {{train_spilt: val}}\n"), check=nothing_is_left,
    ),
    Door(
        "a mistyped name of a group", "optimiser: {lr: 0.5}", MINE, 2,
        "no key optimiser.lr; did you mean optimizer.lr?", "OpenMHC #14",
        make=experiment(f"{GLOBAL}optimiser: {{lr: 0.5}}\n"), check=nothing_is_left,
    ),
    Door(
        "a mistyped argument of a part", "optimizer: {lrr: 0.5}", MINE, 2,
        "optimizer (build_optimizer) takes no lrr", "",
        make=experiment(f"{GLOBAL}optimizer: {{lrr: 0.5}}\n"), check=nothing_is_left,
    ),
    Door(
        "a value of another kind", "trainer: {accumulate: 0}", MINE, 2,
        "trainer.accumulate=0: must be a whole number at least 1", "",
        make=experiment(f"{GLOBAL}trainer: {{accumulate: 0}}\n"), check=nothing_is_left,
    ),
    Door(
        "an experiment that lacks its first line", "data: {root: MINE}", MINE, 2,
        "mine/experiment/cells.yaml sets nothing that is read: begin it with the line\n# @package _global_", "",
        make=experiment("data: {root: MINE}\ntrainer: {budget: 2it}\n"), check=nothing_is_left,
    ),
    Door(
        "a tab in YAML", "trainer: with a tab before budget", MINE, 2,
        "cells.yaml line 3 is no YAML: found character\nYAML takes no tabs", "",
        make=experiment(f"{GLOBAL}trainer:\n\tbudget: 3it\n"), check=nothing_is_left,
    ),
    Door(
        "broken YAML", "data: {root: x", MINE, 2, "is no YAML", "",
        make=experiment(f"{GLOBAL}data: {{root: x\n"), check=nothing_is_left,
    ),
    Door(
        "an environment variable that is not set", "data: {root: ${oc.env:NOPE_NOT_SET}}", f"{MINE} data=voc", 2,
        "Environment variable 'NOPE_NOT_SET' not found", "",
        make=experiment(f"{GLOBAL}data: {{root: '${{oc.env:NOPE_NOT_SET}}'}}\n"), check=nothing_is_left,
    ),
    Door(
        "an option of data of one's own with a mistyped key", "train_spilt: a", "train --config-dir mine data=cells", 2,
        "mine/data/cells.yaml: no key data.train_spilt; did you mean data.train_split?", "",
        make=data_option("defaults: [voc, _self_]\nroot: x\ntrain_spilt: a\n"), check=nothing_is_left,
    ),
    Door(
        "a list of names that YAML reads otherwise", "classes: [no, 02146]", f"{MINE} data=voc", 2,
        "data.root=x does not exist", "yolov5 #11439",
        make=experiment(f"{GLOBAL}data: {{root: x, classes: [no, 02146]}}\n"),
    ),
    Door(
        "a folder of configs that is not there", "", "train --config-dir nowhere", 2,
        "--config-dir=nowhere is no folder",
    ),
    Door(
        "a config that is not there", "", "train --config-name mytrain", 2,
        "--config-name=mytrain: no such file; tried",
    ),
    Door(
        "an experiment that is not there", "", "train experiment=quickstrat", 2,
        "no experiment=quickstrat; did you mean quickstart?",
    ),
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.kind)
def test_door(door, walk):
    walk(door)
