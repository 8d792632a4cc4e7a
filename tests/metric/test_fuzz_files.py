from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import pytest

from detkit.errors import UserError
from detkit.metric.files import evaluate_files

SEED = 16
VALUES = [
    None,
    "",
    "x",
    "7",
    -1,
    0,
    1.5,
    1e400,
    float("nan"),
    10**400,
    [],
    [1],
    {},
    True,
    [1, 2, "3", 4],
    "a/../b",
    ".",
]
WORDS = ["", "cat", "-5", "nan", "inf", "1e999", "difficult", "0.5", "\ufeff", "\x00", "\u00e9", "dog 1"]
FORMS = [None, "xywh", "xyxy", "cxcywh", "yolo"]


def mutate(value, rng: random.Random):
    """`value` with one random place deep inside replaced, left out or doubled."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        act = rng.random()
        if act < 0.1:
            del value[key]
        elif act < 0.2 and isinstance(value, list):
            value.append(copy.deepcopy(value[key]))
        else:
            value[key] = mutate(value[key], rng)
        return value
    return copy.deepcopy(rng.choice(VALUES))


def attempt(predictions: Path, truth: Path, form: str | None) -> bool:
    """Whether it was evaluated; what is wrong may only be a UserError."""
    try:
        evaluate_files(predictions, truth, boxes=form)
    except UserError:
        return False
    return True


@pytest.mark.slow
def test_mutated_json_is_evaluated_or_refused(tmp_path):
    print(f"seed {SEED}")
    rng, done = random.Random(SEED), 0
    for number in range(150):
        rows = [{"id": k, "image_id": k % 3, "category_id": 1, "bbox": [k, 2, 30, 20], "area": 600} for k in range(5)]
        images = [{"id": k, "file_name": f"{k}.jpg", "width": 80, "height": 60} for k in range(3)]
        truth = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
        found = [copy.deepcopy(row) | {"score": 0.5} for row in rows]
        for _ in range(rng.randrange(3)):
            truth, found = (mutate(truth, rng), found) if rng.random() < 0.5 else (truth, mutate(found, rng))
        for name, content in (("gt", truth), ("det", found)):
            text = json.dumps(content)
            text = text[: rng.randrange(len(text) + 1)] if rng.random() < 0.05 else text
            (tmp_path / f"{name}.json").write_text(text)
        print(number, json.dumps(truth)[:2000], json.dumps(found)[:2000])
        done += attempt(tmp_path / "det.json", tmp_path / "gt.json", rng.choice(FORMS[:4]))
    assert 20 < done < 150  # both happen


@pytest.mark.slow
def test_mutated_text_is_evaluated_or_refused(tmp_path):
    print(f"seed {SEED}")
    rng, done = random.Random(SEED), 0
    for folder in ("gt", "det"):
        (tmp_path / folder).mkdir()
    for number in range(150):
        for folder, score in (("gt", []), ("det", ["0.5"])):
            lines = [["cat", *score, "10", "10", "30", "20"] for _ in range(3)]
            if rng.random() < 0.4:
                line = rng.choice(lines)
                line[rng.randrange(len(line))] = rng.choice(WORDS)
            text = "\n".join(map(" ".join, lines))
            data = text.encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]))
            if rng.random() < 0.1:
                data = data[: rng.randrange(len(data))] + bytes([rng.randrange(256)])
            print(number, folder, data)
            (tmp_path / folder / "a.txt").write_bytes(data)
        done += attempt(tmp_path / "det", tmp_path / "gt", rng.choice(FORMS))
    assert 20 < done < 150
