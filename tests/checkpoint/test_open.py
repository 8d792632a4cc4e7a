"""Who may know whom: readers of foreign formats know what a checkpoint is, and only the door knows the readers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from detkit.checkpoint.open import READERS, load_checkpoint
from detkit.errors import UserError

DETKIT = Path(__file__).resolve().parents[2] / "detkit"


def imports(path: Path) -> set[str]:
    """The modules of detkit that a file imports anywhere, inside functions too."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {node.module for node in nodes if node.module and node.module.startswith("detkit.")}


def reach(path: Path, seen: set[Path]) -> set[Path]:
    """All files of detkit that importing one leads to."""
    for module in imports(path):
        found = DETKIT.parent / f"{module.replace('.', '/')}.py"
        if found.is_file() and found not in seen:
            seen.add(found)
            reach(found, seen)
    return seen


@pytest.mark.parametrize("name", ["content", "store", "open", "aliases", "runner"])
def test_nothing_that_a_checkpoint_needs_needs_it_in_turn(name: str) -> None:
    path = DETKIT / "checkpoint" / f"{name}.py"
    assert path not in reach(path, set())


@pytest.mark.parametrize(
    "path",
    ["config.py", "bridge/darknet/checkpoint.py", "bridge/torchvision/checkpoint.py", "bridge/export/session.py"],
)
def test_no_reader_knows_the_door(path: str) -> None:
    assert DETKIT / "checkpoint" / "open.py" not in reach(DETKIT / path, set())


@pytest.mark.parametrize(
    ("name", "told"), [("x.pt2", "may run code from it"), ("x.weights", r"holds numbers alone: give the \.cfg")]
)
def test_files_that_are_no_checkpoints_are_told_by_their_suffix(tmp_path: Path, name: str, told: str) -> None:
    assert Path(name).suffix in READERS
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=told):
        load_checkpoint(tmp_path / name)
