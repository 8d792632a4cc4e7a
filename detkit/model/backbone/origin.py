"""Record which published weights, or which file, each part of a network started from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import timm
import torch
import torchvision
from huggingface_hub import try_to_load_from_cache


@dataclass(frozen=True)
class Origin:
    """The pretrained weights of a part.

    part: the config key, such as model.backbone. weights: the network and the name of its published weights, or the
    file. sha256: of the bytes that were read; None where the loader keeps no file.
    """

    part: str
    weights: str
    sha256: str | None

    def __str__(self) -> str:
        return f"{self.part} begins from {self.weights}" + (f", sha256 {self.sha256[:12]}" if self.sha256 else "")


_record: ContextVar[list[Origin] | None] = ContextVar("origins", default=None)


@contextmanager
def record_origins() -> Iterator[list[Origin]]:
    """Collect the origins of the weights that parts load inside the block, in the order in which they are built."""
    found: list[Origin] = []
    token = _record.set(found)
    try:
        yield found
    finally:
        _record.reset(token)


def note(part: str, weights: str, path: Path | None) -> None:
    """Record that `part` has loaded `weights` from the file `path`, where someone is collecting."""
    found = _record.get()
    if found is not None:
        known = path is not None and path.is_file()
        found.append(Origin(part, weights, sha256_of(str(path), path.stat().st_mtime_ns) if path and known else None))


@contextmanager
def of_inner_part(key: str, inside: str) -> Iterator[None]:
    """Record a part that calls itself `key` as `inside`, its place within another part."""
    with record_origins() as found:
        yield
    outer = _record.get()
    if outer is not None:
        outer += [replace(each, part=inside) if each.part == key else each for each in found]


@lru_cache(maxsize=8)  # the trunk and the last stage of a network are read from one file
def sha256_of(path: str, changed: int) -> str:
    """Compute the SHA-256 of a file; changed: the time of its last change, by which the result is cached."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def torchvision_file(name: str, weights: str) -> Path:
    """Tell where torchvision keeps the published `weights` of a network once they are downloaded."""
    return _in_hub(torchvision.models.get_model_weights(name)[weights].url)


def timm_file(name: str) -> tuple[str, Path | None]:
    """Tell timm's own name for its weights of a network, with their tag, and where they are kept once downloaded."""
    config = timm.models.get_pretrained_cfg(name)
    assert config is not None
    if config.hf_hub_id:
        for file in ("model.safetensors", "pytorch_model.bin"):
            path = try_to_load_from_cache(config.hf_hub_id, config.hf_hub_filename or file)
            if isinstance(path, str):
                return f"{config.hf_hub_id} of timm", Path(path)
    tag = f"{name}.{config.tag}" if config.tag and "." not in name else name
    return f"{tag} of timm", _in_hub(config.url) if config.url and isinstance(config.url, str) else None


def _in_hub(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
