from __future__ import annotations

import os
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detkit.checkpoint import store
from detkit.checkpoint.content import Checkpoint, Position, TrainingState
from detkit.checkpoint.store import copy_checkpoint, find_checkpoint, save_checkpoint
from detkit.core.errors import UserError
from detkit.infer.open_checkpoint import load_checkpoint


def whole(**changes: Any) -> Checkpoint:
    """The least that a checkpoint holds, with changes."""
    config = {"model": {"_target_": "x"}, "data": {}, "a": [1, None, "x"]}
    return replace(Checkpoint(model={}, config=config, classes=["a"], preprocess={}), **changes)


def content(**changes: Any) -> dict[str, Any]:
    """The same as it stands in a file of the first format, or of another; what is None is left out."""
    found = {"format": 1, "detkit_version": "0.1.0", "model": {}, "config": whole().config, "classes": ["a"]}
    found |= {"preprocess": {}, "position": {"step": 3}} | changes
    return {key: value for key, value in found.items() if value is not None}


STATE = TrainingState(optimizer={"state": {}}, scaler={}, rng=[{}, {}], metrics={}, best={"value": -float("inf")})


def test_round_trip_and_run_folder(tmp_path: Path) -> None:
    position = Position(epoch=1, batch=2, step=3, elapsed_s=0.5, unevaluated=True)
    weights = {"w": torch.arange(3.0)}
    checkpoint = whole(
        model=weights, position=position, training=STATE, category_ids=[7], tested_as="so", unused="[net] angle"
    )
    save_checkpoint(tmp_path / "checkpoints" / "best.pt", checkpoint)
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(loaded.model["w"], weights["w"]) and loaded.ema is None
    for name in ("config", "classes", "category_ids", "preprocess", "position", "tested_as", "unused"):
        assert getattr(loaded, name) == getattr(checkpoint, name), name
    assert loaded.training is not None and asdict(loaded.training) == asdict(STATE)
    assert loaded.step == 3 and loaded.processes == 2
    copy_checkpoint(tmp_path / "checkpoints" / "best.pt", tmp_path / "other.pt")
    assert load_checkpoint(tmp_path / "other.pt").config == checkpoint.config


def test_averaged_weights_go_before_the_last() -> None:
    last, averaged = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    assert whole(model=last).weights is last
    assert whole(model=last, ema=averaged).weights is averaged


def test_what_a_checkpoint_does_not_say_is_nothing() -> None:
    bare = whole(config={"model": {"_target_": "x"}})
    assert bare.data_config["train_split"] is None and bare.proposal_config is None and bare.name is None
    assert whole(config={}).model_config == {}


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, whole(position=Position(step=1)))

    def full_disk(*_: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, stage, full_disk)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(path, whole(position=Position(step=2)))
    assert load_checkpoint(path).position == Position(step=1)
    assert os.listdir(tmp_path) == ["last.pt"]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch exploded",))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "model": Bomb()}, "bomb.pt")
    with pytest.raises(UserError, match=r"bomb\.pt is not a detkit checkpoint"):
        load_checkpoint("bomb.pt")
    assert not Path("exploded").exists()


@pytest.mark.parametrize("data", [b"not a checkpoint", b"{}", pickle.dumps({"a": 1}, protocol=2)])
def test_other_files_are_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.pt is not a detkit checkpoint"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("key", ["model", "config", "classes", "preprocess"])
def test_a_key_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    torch.save(content(**{key: None}), tmp_path / "x.pt")
    with pytest.raises(UserError, match=rf"x\.pt is no whole checkpoint: {key}, .* is missing$"):
        load_checkpoint(tmp_path / "x.pt")


def test_what_is_of_another_kind_is_named(tmp_path: Path) -> None:
    for wrong, told in (
        (content(classes="ring"), "classes, the class names, is a str"),
        (content(config={"data": {}}), r"config\.model, .* is missing"),
        (content(config={"model": [], "data": {}}), r"config\.model, .* is a list"),
        (content(position=3), "position, how far the training was, is a int"),
        (content(**asdict(STATE) | {"rng": None}), "rng, the random states of the processes, is missing"),
    ):
        torch.save(wrong, tmp_path / "x.pt")
        with pytest.raises(UserError, match=told):
            load_checkpoint(tmp_path / "x.pt")


def test_whom_a_checkpoint_may_trust_is_the_readers_word(tmp_path: Path) -> None:
    torch.save(content(trust=["evil"]), tmp_path / "x.pt")
    assert load_checkpoint(tmp_path / "x.pt").trust == []
    assert load_checkpoint(tmp_path / "x.pt", trust="mynet").trust == ["mynet"]
    save_checkpoint(tmp_path / "y.pt", whole(trust=["mynet"]))
    assert "trust" not in torch.load(tmp_path / "y.pt", weights_only=True)


def test_the_first_format_is_read_as_the_second(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "x.pt")
    first = load_checkpoint(tmp_path / "x.pt")
    assert first.position == Position(step=3) and first.training is None
    save_checkpoint(tmp_path / "y.pt", first)
    again = torch.load(tmp_path / "y.pt", weights_only=True)
    assert again["format"] == 2 and again["detkit_version"] == store.__version__
    assert load_checkpoint(tmp_path / "y.pt").config == first.config == content()["config"]


def test_a_reader_of_the_first_format_names_the_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "x.pt", whole())
    monkeypatch.setattr(store, "FORMATS", (1,))  # what it refused was all but 1
    with pytest.raises(UserError, match=r"x\.pt was written by detkit .* in format 2; this version reads 1$"):
        load_checkpoint(tmp_path / "x.pt")


def test_weights_alone_and_other_formats_are_named(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="no 'format'"):
        load_checkpoint(tmp_path / "weights.pt")
    torch.save({"format": 99, "detkit_version": "9.0"}, tmp_path / "future.pt")
    with pytest.raises(UserError, match=r"detkit 9\.0 in format 99; this version reads 1 and 2$"):
        load_checkpoint(tmp_path / "future.pt")


def test_what_was_tried_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoints/best\.pt"):
        find_checkpoint(tmp_path)
    with pytest.raises(UserError, match="no checkpoint"):
        find_checkpoint(tmp_path / "absent.pt")
