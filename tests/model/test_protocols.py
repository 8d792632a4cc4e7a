"""To mypy, every part that a config can choose is what its protocol says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL_OF = {
    "backbone": "Backbone",
    "neck": "Neck",
    "proposer": "Proposer",
    "roi_pool": "RoIPooler",
    "box_head": "BoxHead",
    "predictor": "Predictor",
    "roi_head": "RoIHead",
    "dense_head": "DenseHead",
    "postprocess": "Postprocess",
}
ALSO = [
    ("detkit.model.box_head.RegionCNN", "RegionNetwork"),
    ("detkit.model.predictor.LinearPredictor", "ScalablePredictor"),
    ("detkit.model.predictor.PositionSensitivePredictor", "VotingPredictor"),
]
PLANTED = ("detkit.model.neck.fpn.FPN", "Backbone")


def targets(group: str) -> Iterator[str]:
    for path in sorted((ROOT / "configs" / "model" / group).glob("*.yaml")):
        node = OmegaConf.load(path)
        target = node.get(group, node).get("_target_")
        if target is not None:
            yield target


def test_the_package_tells_users_of_it_that_it_has_types() -> None:
    assert resources.files("detkit").joinpath("py.typed").is_file()


@pytest.mark.slow
def test_mypy_takes_every_part_for_its_protocol(tmp_path: Path) -> None:
    parts = {(target, protocol) for group, protocol in PROTOCOL_OF.items() for target in targets(group)}
    assert len(parts) > 2 * len(PROTOCOL_OF)
    lines = ["import detkit.model.protocols as protocols"]
    for index, (target, protocol) in enumerate([*sorted(parts), *ALSO, PLANTED]):
        lines += [f"import {target.rpartition('.')[0]}", f"part{index}: type[protocols.{protocol}] = {target}"]
    file = tmp_path / "parts.py"
    file.write_text("\n".join(lines) + "\n")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        ROOT / "pyproject.toml",
        "--cache-dir",
        ROOT / ".mypy_cache",
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    checked = subprocess.run([*command, file], cwd=tmp_path, env=environment, capture_output=True, text=True)
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert [int(line.split(":")[1]) for line in errors] == [len(lines)], checked.stdout  # what was planted, alone
