from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from detkit.engine import checkpoint
from detkit.engine.checkpoint import copy_checkpoint, find_checkpoint, load_checkpoint, save_checkpoint
from detkit.errors import UserError


def whole(**changes: Any) -> dict[str, Any]:
    """The least that a checkpoint holds, with changes."""
    config = {"model": {"_target_": "x"}, "data": {}, "a": [1, None, "x"]}
    return {"model": {}, "config": config, "classes": ["a"], "preprocess": {}, "position": {"step": 0}} | changes


def test_round_trip_and_run_folder(tmp_path: Path) -> None:
    content = whole(model={"w": torch.arange(3.0)}, best={"value": -float("inf")})
    save_checkpoint(tmp_path / "checkpoints" / "best.pt", content)
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(loaded["model"]["w"], content["model"]["w"])
    assert loaded["config"] == content["config"] and loaded["best"] == content["best"]
    assert loaded["format"] == 1 and loaded["detkit_version"]
    copy_checkpoint(tmp_path / "checkpoints" / "best.pt", tmp_path / "other.pt")
    assert load_checkpoint(tmp_path / "other.pt")["config"] == content["config"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, whole(position={"step": 1}))

    def full_disk(*_: Any) -> None:
        raise OSError("No space left on device")

    for stage in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.os, stage, full_disk)
            with pytest.raises(OSError, match="No space"):
                save_checkpoint(path, whole(position={"step": 2}))
        assert load_checkpoint(path)["position"] == {"step": 1}
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


@pytest.mark.parametrize("content", [b"not a checkpoint", b"{}", pickle.dumps({"a": 1}, protocol=2)])
def test_other_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pt is not a detkit checkpoint"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("key", ["model", "config", "classes", "preprocess"])
def test_a_key_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    content = whole()
    del content[key]
    save_checkpoint(tmp_path / "x.pt", content)
    with pytest.raises(UserError, match=rf"x\.pt is no whole checkpoint: {key}, .* is missing$"):
        load_checkpoint(tmp_path / "x.pt")


def test_what_is_of_another_kind_is_named(tmp_path: Path) -> None:
    for content, told in (
        (whole(classes="ring"), "classes, the class names, is a str"),
        (whole(config={"data": {}}), r"config\.model, .* is missing"),
        (whole(config={"model": [], "data": {}}), r"config\.model, .* is a list"),
    ):
        save_checkpoint(tmp_path / "x.pt", content)
        with pytest.raises(UserError, match=told):
            load_checkpoint(tmp_path / "x.pt")


def test_whom_a_checkpoint_may_trust_is_the_readers_word(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pt", whole(trust=["evil"]))
    assert load_checkpoint(tmp_path / "x.pt")["trust"] == []
    assert load_checkpoint(tmp_path / "x.pt", trust="mynet")["trust"] == ["mynet"]


def test_weights_alone_and_other_formats_are_named(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="no 'format'"):
        load_checkpoint(tmp_path / "weights.pt")
    torch.save({"format": 99, "detkit_version": "9.0"}, tmp_path / "future.pt")
    with pytest.raises(UserError, match=r"detkit 9\.0 in format 99"):
        load_checkpoint(tmp_path / "future.pt")


def test_what_was_tried_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoints/best\.pt"):
        find_checkpoint(tmp_path)
    with pytest.raises(UserError, match="no checkpoint"):
        find_checkpoint(tmp_path / "absent.pt")
