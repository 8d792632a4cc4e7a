from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detkit import cli
from detkit import config as detkit_config

MODEL = """
defaults:
  - /preprocess@_global_.preprocess: short_side
  - _self_
_target_: fake_detector.build_fake
poison: null
"""


@pytest.fixture
def run(tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """run(*overrides): `detkit compare` on a tiny set, with the models `fake` and `other`; results in tmp_path/run."""
    monkeypatch.setattr(detkit_config, "TRUSTED", (*detkit_config.TRUSTED, "fake_detector."))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "model").mkdir(parents=True)
    for name in ("fake", "other"):
        (tmp_path / "own" / "model" / f"{name}.yaml").write_text(MODEL)
    settings = [
        "data=voc", f"data.root={tiny_voc}", "device=cpu", "loader.batch_size=2", "loader.num_workers=0",
        "logger.tensorboard=false", "trainer.budget=2it", "trainer.eval_every=null", "evaluation.pictures=0",
        "evaluation.timing_images=3", "evaluation.timing_warmup=1",
    ]  # fmt: skip
    return lambda *overrides: cli.main(["compare", "--config-dir", "own", *settings, *overrides])


def test_trains_measures_and_times_side_by_side(run: Callable[..., int], tmp_path: Path) -> None:
    command = ["model=fake", "models=[fake,{broken:[\"model=other\",\"model.poison=t0\"]}]", "seeds=[0,1]", "run_dir=run"]
    assert run(*command) == 0
    comparison = json.loads((tmp_path / "run" / "compare.json").read_text())
    print((tmp_path / "run" / "compare.md").read_text())
