"""What the first format wrote (`make_fixtures.py`) opens for ever, and finds what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import detkit

FOLDER = Path(__file__).parent / "format_1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_format_1_finds_what_it_found(name: str) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnxruntime")
    wanted = EXPECTED[name]
    loaded = detkit.load(FOLDER / name, device="cpu")
    found = loaded.predict(FOLDER / "scene.png", score_threshold=wanted["score_threshold"])
    assert loaded.classes == ["disk", "ring", "square", "star", "triangle"]
    assert found.labels.tolist() == wanted["labels"] and len(found) >= 5
    torch.testing.assert_close(found.boxes, torch.tensor(wanted["boxes"]), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.scores, torch.tensor(wanted["scores"]), rtol=0, atol=1e-5)
