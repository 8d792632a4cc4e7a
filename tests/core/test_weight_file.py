"""Files of weights of other projects are read, or told apart in one line; nothing inside is run."""

from __future__ import annotations

import argparse
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from detkit.core.errors import UserError
from detkit.core.weight_file import read_weight_file, weights_in, without_wrappers

WEIGHTS = {"conv.weight": torch.arange(4.0), "conv.bias": torch.ones(1)}


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch exploded",))


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in WEIGHTS.items()}


def assert_read(path: Path) -> None:
    found = weights_in(read_weight_file(path))
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items())


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "pytorch-lightning_version": "2.4"},
        {"model_state_dict": prefixed("module."), "optimizer_state_dict": {}},
        {"model": prefixed("model."), "args": argparse.Namespace(lr=0.1, data_path="/x", device=None)},
        {"state_dict": prefixed("module._orig_mod."), "loss": 0.5},
        {"model": prefixed("x."), "model_ema": {"n_averaged": torch.tensor(3), **prefixed("module.")}},
        {"conv._orig_mod.weight": WEIGHTS["conv.weight"], "conv.bias": WEIGHTS["conv.bias"]},
    ],
    ids=lambda content: " ".join(list(content)[:2]),
)
def test_weights_are_found_wherever_trainings_keep_them(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert_read(tmp_path / "x.pth")
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_read(tmp_path / "old.pth")


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
def test_safetensors_are_read_under_any_name(tmp_path: Path, name: str) -> None:
    save_file(WEIGHTS, tmp_path / name)
    assert_read(tmp_path / name)


def test_names_that_are_wanted_as_they_are_stay() -> None:
    assert without_wrappers({"model.x": 1}, ["model.x"]) == {"model.x": 1}
    assert without_wrappers({"model.x": 1}, ["x"]) == {"x": 1}
    assert without_wrappers({"model.x": 1, "y": 2}) == {"model.x": 1, "y": 2}


STRANGERS = {
    "empty": (b"", "empty"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "a web page"),
    "bare page": (b"<html><head>Sign in</head></html>", "a web page"),
    "text": (b"hello world", "PyTorch cannot read it"),
    "archive": (b"\x1f\x8b\x08\x00" * 9, "gzip"),
    "pickle": (pickle.dumps({"a": Bomb()}), "PyTorch cannot read it"),
    "safetensors": ((1 << 60).to_bytes(8, "little") + b"{" * 9, "safetensors"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_what_is_no_file_of_weights_is_told_apart(tmp_path: Path, kind: str) -> None:
    content, told = STRANGERS[kind]
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.pth is .*{told}"):
        read_weight_file(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [Bomb(), {"model": Bomb()}, argparse.Namespace(x=Bomb()), nn.Linear(2, 2)])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"it names [\w.]+, and no code of a file is run"):
        read_weight_file(Path("x.pth"))
    assert not Path("exploded").exists()


def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    """Cut anywhere, or with a few other bytes: read, or one line that names the file."""
    path = tmp_path / "x.pth"
    for zipped in (True, False):
        torch.save({"model": WEIGHTS, "args": argparse.Namespace(a=1)}, path, _use_new_zipfile_serialization=zipped)
        whole, told = path.read_bytes(), 0
        for seed in range(60):
            generator = random.Random(seed)
            content = bytearray(whole)
            if seed % 2:
                del content[generator.randrange(1, len(whole)) :]
            for _ in range(generator.randrange(1, 6)):
                content[generator.randrange(len(content))] = generator.randrange(256)
            path.write_bytes(content)
            try:
                read_weight_file(path)
            except UserError as error:
                told += 1
                assert "\n" not in str(error) and str(path) in str(error)
        assert told > 20
