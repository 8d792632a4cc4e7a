"""A small VOC folder, written anew for each test that asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from noise_voc import VocObject, write_voc

MakeVoc = Callable[..., Path]


@pytest.fixture
def make_voc(tmp_path: Path) -> MakeVoc:
    """make_voc({id: objects}, split="train", root=..., size=..., suffix=...): `write_voc`, by default to one root."""

    def make(
        images: Mapping[str, Sequence[VocObject]], split: str = "train", root: Path | None = None, **options: Any
    ) -> Path:
        return write_voc(root or tmp_path / "voc", images, split, **options)

    return make
