"""Exporting: what is told before the long work, and what counts as checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from doors import Door

EXPORT = "export checkpoint=RUN repeats=1 images=2"


def untouched(folder: Path, _: str) -> None:
    assert (folder / "RUN" / "checkpoints" / "best.pt").stat().st_size > 100_000
    assert not list(folder.rglob("*.onnx"))


def opset_is_18(folder: Path, _: str) -> None:
    onnx = pytest.importorskip("onnx")
    assert [one.version for one in onnx.load(folder / "m.onnx").opset_import if one.domain == ""] == [18]


DOORS = [
    Door("a name that looks like a checkpoint", "RUN", f"{EXPORT} output=RUN/checkpoints/best.pt", 2,
         "the name ends in .onnx, as in output=RUN/checkpoints/best.onnx", needs=("RUN",), check=untouched),
    Door("a name without suffix", "RUN", f"{EXPORT} format=torch output=model.onnx", 2, "the name ends in .pt2",
         needs=("RUN",), check=untouched),
    Door("a folder as output", "RUN", f"{EXPORT} output=RUN", 2,
         "output=RUN is a folder: name a file in it, output=RUN/best.onnx", needs=("RUN",), check=untouched),
    Door("opset", "one that does not work", f"{EXPORT} opset=12", 2, "opset=12: choose one of 18, 20", needs=("RUN",),
         check=untouched),
    Door("nothing to compare is no pass", "RUN of two steps, a threshold that nothing reaches",
         f"{EXPORT} output=m.onnx opset=18 postprocess.score_threshold=0.999", 1, "not checked: nothing was found",
         needs=("D", "RUN"), check=opset_is_18, slow=True),
]  # fmt: skip


@pytest.mark.parametrize(
    "door",
    [
        pytest.param(door, id=f"{door.kind}, {door.given}", marks=[pytest.mark.slow] if door.slow else [])
        for door in DOORS
    ],
)
def test_door(door: Door, walk: Callable[[Door], str]) -> None:
    walk(door)
