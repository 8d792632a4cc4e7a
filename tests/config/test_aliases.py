"""A stored config is read in the names of today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detkit.checkpoint.build import build_preprocess
from detkit.config import aliases
from detkit.config.aliases import name_now, renamed, renamed_config
from detkit.export.metadata import read_content
from detkit.infer.open_checkpoint import load_checkpoint

NOW = "detkit.image.preprocess"


@pytest.fixture(autouse=True)
def moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if preprocess had come from elsewhere, and the rest had had other names."""
    rows = {"detkit.old": NOW, "detkit.old.Squash": f"{NOW}.Warp", "detkit.model.knee": "detkit.model.neck"}
    monkeypatch.setattr(aliases, "TARGETS", rows)
    monkeypatch.setattr(aliases, "ARGUMENTS", {f"{NOW}.Warp": {"rows": "height"}})
    monkeypatch.setattr(aliases, "WEIGHTS", {"head.knee": "head.neck"})
    monkeypatch.setattr(aliases, "PLACES", {"loader.sides": "loader.multiscale", "regions": "cache.proposal"})


def test_the_longest_row_wins_and_ends_at_a_dot() -> None:
    rows = aliases.TARGETS
    assert name_now("detkit.old.ShortSide", rows) == f"{NOW}.ShortSide"
    assert name_now("detkit.old.Squash", rows) == f"{NOW}.Warp"
    assert name_now("detkit.older.Squash", rows) == "detkit.older.Squash"


def test_parts_are_renamed_at_any_depth() -> None:
    old, new = {"_target_": "detkit.model.knee.fpn.FPN"}, {"_target_": "detkit.model.neck.fpn.FPN"}
    stored = {"a": [old, {"b": (old, 1)}], "_target_": "my.own", "rows": 3, "c": None}
    assert renamed(stored) == {"a": [new, {"b": (new, 1)}], "_target_": "my.own", "rows": 3, "c": None}
    assert stored["a"][0] is old and old["_target_"].startswith("detkit.model.knee")  # a copy


def test_what_a_part_takes_is_renamed_with_it() -> None:
    assert renamed({"_target_": "detkit.old.Squash", "rows": 3}) == {"_target_": f"{NOW}.Warp", "height": 3}
    assert renamed({"_target_": "detkit.old.ShortSide", "rows": 3})["rows"] == 3


def test_places_of_a_training_config_move() -> None:
    config = {"loader": {"sides": [32], "batch_size": 2}, "regions": {"dir": "x"}, "seed": 0}
    now = {"loader": {"batch_size": 2, "multiscale": [32]}, "cache": {"proposal": {"dir": "x"}}, "seed": 0}
    assert renamed_config(config) == now and renamed_config(now) == now
    assert renamed_config({"loader": None}) == {"loader": None}


def test_a_checkpoint_and_an_exported_file_are_read_in_the_names_of_today(tmp_path: Path) -> None:
    preprocess = {"_target_": "detkit.old.Squash", "rows": 64, "width": 96}
    config = {"model": {"_target_": "detkit.model.knee.X"}, "loader": {"sides": []}}
    weights = {"head.knee.0.bias": torch.ones(1), "head.kneecap": torch.zeros(1)}
    content = {"format": 1, "config": config, "classes": ["a"], "preprocess": preprocess}
    torch.save(content | {"model": weights, "ema": weights}, tmp_path / "x.pt")
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert loaded.model.keys() == {"head.neck.0.bias", "head.kneecap"} and loaded.weights.keys() == loaded.model.keys()
    assert loaded.config == {"model": {"_target_": "detkit.model.neck.X"}, "loader": {"multiscale": []}}
    about = {"format": 1, "classes": ["a"], "preprocess": preprocess, "proposal": {"_target_": "detkit.old.Source"}}
    exported = read_content(json.dumps(about), Path("x.onnx"))
    assert exported.proposal_config == {"_target_": f"{NOW}.Source"}
    for checkpoint in (loaded, exported):
        assert build_preprocess(checkpoint.preprocess).to_dict()["height"] == 64


@pytest.mark.parametrize("table", ["TARGETS", "PLACES", "WEIGHTS"])
def test_no_row_leads_to_a_name_that_another_row_takes_away(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    monkeypatch.undo()  # the tables as they are
    rows = getattr(aliases, table)
    for new in rows.values():
        assert not [old for old in rows if f"{new}.".startswith(f"{old}.")], new
