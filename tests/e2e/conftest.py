"""What the tests that go through the command line share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detkit.commands import cli


@pytest.fixture(scope="session")
def few_objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set of four training images, of which one has objects."""
    root = tmp_path_factory.mktemp("scenes") / "set"
    assert cli.main(["make_synthetic", f"root={root}", "num_train=4", "num_val=1", "num_test=1", "size=[96,128]"]) == 0
    for path in sorted((root / "Annotations").glob("train_*.xml"))[1:]:
        path.write_text(re.sub(r"<object>.*?</object>", "", path.read_text(), flags=re.DOTALL))
    return root
