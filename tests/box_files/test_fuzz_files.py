"""Files that are broken at random end in an evaluation or in a UserError, never in another exception."""

from __future__ import annotations

import copy
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from detkit.box_files.files import evaluate_files
from detkit.core.errors import UserError

ROUNDS = 300
ODD: list[Any] = [
    None, "", "x", "7", True, -1, 0, 1.5, 1e308, 10**400, float("nan"), float("inf"), [], [1], {}, [[1, 2], [3, 4]],
    "\0", "../a.jpg", "\ud83d",
]  # fmt: skip
WORDS = ["", "nan", "-5", "1e999", "cat", "0.5", "99", "difficult", "\ufeff", "\0", "1,5", "狗"]


def truth() -> dict[str, Any]:
    return {
        "images": [{"id": k, "file_name": f"{k}.jpg", "width": 80, "height": 60} for k in range(4)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(["cat", "dog"])],
        "annotations": [
            {"id": k, "image_id": k, "category_id": k % 2, "bbox": [10 * k, 8, 30, 20], "area": 600, "iscrowd": 0}
            for k in range(4)
        ],
    }


def found() -> list[dict[str, Any]]:
    return [
        {"image_id": k, "category_id": k % 2, "bbox": [10 * k + 1, 9, 30, 20], "score": 0.9 - k / 10} for k in range(4)
    ]


def mutate(value: Any, rng: random.Random) -> Any:
    """One place of a JSON value changed, dropped or doubled."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.9:
        value = copy.copy(value)
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.15:
            del value[key]
        elif kind < 0.25 and isinstance(value, list):
            value.append(value[key])
        else:
            value[key] = mutate(value[key], rng)
        return value
    return rng.choice(ODD)


def write_json(folder: Path, rng: random.Random) -> tuple[Path, Path]:
    paths = folder / "det.json", folder / "gt.json"
    for path, content in zip(paths, (found(), truth()), strict=True):
        for _ in range(rng.randrange(3)):
            content = mutate(content, rng)
        data = json.dumps(content).encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
        path.write_bytes(spoil(data, rng) if rng.random() < 0.15 else data)
    return paths


def write_text(folder: Path, rng: random.Random) -> tuple[Path, Path]:
    paths = folder / "det", folder / "gt"
    for path, score in zip(paths, (["0.9"], []), strict=True):
        path.mkdir()
        for k in range(3):
            words = ["cat", *score, *map(str, (10 * k, 8, 30, 20))]
            for _ in range(rng.randrange(2)):
                words[rng.randrange(len(words))] = rng.choice(WORDS)
            data = f"{' '.join(words)}\n".encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
            (path / f"{k}.txt").write_bytes(spoil(data, rng) if rng.random() < 0.1 else data)
    return paths


def spoil(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([rng.randrange(256)]) + data[at + rng.randrange(3) :]


@pytest.mark.slow
def test_random_damage(tmp_path):
    seed = int(time.time())
    print(f"seed {seed}")
    rng = random.Random(seed)
    refused = 0
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        predictions, ground_truth = (write_json if number % 2 else write_text)(folder, rng)
        form = rng.choice([None, None, "xywh", "xyxy", "cxcywh", "yolo"])
        try:
            metrics = evaluate_files(predictions, ground_truth, boxes=form)
            json.dumps(metrics, allow_nan=False)
        except UserError as error:
            refused += 1
            assert str(error).count("\n") <= 1, error
        except Exception as error:
            raise AssertionError(f"seed {seed}, round {number}: {folder}") from error
    assert 0 < refused < ROUNDS
