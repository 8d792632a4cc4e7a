"""The door to every kind of file."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.core.errors import UserError
from detkit.infer.open_checkpoint import READERS, load_checkpoint


@pytest.mark.parametrize(
    ("name", "told"), [("x.pt2", "may run code from it"), ("x.weights", r"holds numbers alone: give the \.cfg")]
)
def test_files_that_are_no_checkpoints_are_told_by_their_suffix(tmp_path: Path, name: str, told: str) -> None:
    assert Path(name).suffix in READERS
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=told):
        load_checkpoint(tmp_path / name)
