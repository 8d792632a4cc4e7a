"""A run without a name of its own is called after its model, or after what it fine-tunes."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.run_name import run_name
from detkit.checkpoint.store import save_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of a training called raccoons."""
    config = {"name": "raccoons", "model": {}}
    (tmp_path / "2026-01-01" / "checkpoints").mkdir(parents=True)
    save_checkpoint(
        tmp_path / "2026-01-01" / "checkpoints" / "best.pt",
        Checkpoint(model={}, config=config, classes=[], preprocess={}),
    )
    return tmp_path / "2026-01-01"


def test_a_run_is_called_after_its_model() -> None:
    assert run_name("ssd_light", None) == "ssd_light"


def test_a_fine_tuning_is_called_after_the_run_of_its_checkpoint(run: Path) -> None:
    assert run_name("ssd_light", str(run)) == "raccoons_tuned"
    assert run_name("ssd_light", str(run / "checkpoints" / "best.pt")) == "raccoons_tuned"


def test_a_file_of_another_project_names_a_fine_tuning_itself(tmp_path: Path) -> None:
    (tmp_path / "yolov3-tiny.cfg").write_text("[net]\n")
    (tmp_path / "odd.pt").write_text("no checkpoint")
    assert run_name("ssd_light", str(tmp_path / "yolov3-tiny.cfg")) == "yolov3-tiny_tuned"
    assert run_name("ssd_light", str(tmp_path / "odd.pt")) == "odd_tuned"
    assert run_name("ssd_light", str(tmp_path / "gone.pt")) == "gone_tuned"
