"""COCO and YOLO files of every kind of damage: a fault or a UserError, never anything else."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detkit.core.errors import UserError
from detkit.data.annotations import Annotations
from detkit.data.formats.coco.coco import read_coco
from detkit.data.formats.yolo.yolo_txt import read_yolo
from detkit.data.quality.content import require_objects

SEED = 20_261_129
FILES = 700
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1.0, 1.5, 10**400, -(10**30), 1e308, float("nan"), float("inf"), "", "1", "x",
    "1e400", "nan", "\ud800", "\0", "a/b", "..", "C:\\a.png", [], {}, [1], [[1, 2]], [1, 2, 3, 4], {"a": 1}, "a" * 5000,
)  # fmt: skip
NUMBERS = (
    "", "0", "1", "-1", "0.0", "1e0", "0.5", "0.25", "1.0021", "1.4", "2", "640", "nan", "inf", "-inf", "1e400", "1_0",
    "0x1", "0,5", "x", "\uff11", "99999999999999999999999", "0.5.5", ";", ",", "--1", "1e-320",
)  # fmt: skip
WORDS = (
    "cat",
    "dog",
    "no",
    "null",
    "~",
    "16:9",
    "02146",
    "0:cat",
    "bat, fox",
    "",
    "'",
    '"',
    "[",
    "{",
    "!!x y",
    "&a",
    "*a",
    "-",
    "1",
)
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030", "latin-1")


def coco(random_: random.Random) -> Any:
    """The content of a file; most of its values are sound."""

    def value(sound: Any) -> Any:
        return sound if random_.random() < 0.93 else random_.choice(VALUES)

    def row(**keys: Any) -> Any:
        found = {key: value(sound) for key, sound in keys.items() if random_.random() < 0.97}
        return found if random_.random() < 0.98 else random_.choice(VALUES)

    def box() -> list[Any]:
        return [value(random_.choice((random_.randint(-5, 60), random_.random() * 50))) for _ in range(4)]

    def mask() -> Any:
        return random_.choice(
            (
                [],
                [box() + box()],
                box() + box(),
                [box(), box()[:3]],
                {"size": value([60, 60]), "counts": value([10, 20, 3570])},
                {"size": [60, 60], "counts": value("".join(random_.choices("0123OPQabc`o~", k=9)))},
            )
        )

    images = [row(id=number, file_name=f"{number}.png", width=60, height=60) for number in range(4)]
    categories = [row(id=number, name=f"c{number}", supercategory="none") for number in range(3)]
    annotations = [
        row(
            id=number, image_id=random_.randrange(5), category_id=random_.randrange(4), bbox=box(), area=9,
            iscrowd=random_.choice((0, 1, "0", "1", True)), segmentation=mask(),
        )
        for number in range(6)
    ]  # fmt: skip
    return row(images=images, categories=categories, annotations=annotations)


def damaged(random_: random.Random, text: str) -> bytes:
    """The bytes of a text, encoded, and in some of them cut or changed."""
    data = text.encode(random_.choice(ENCODINGS), "replace")
    if data and random_.random() < 0.25:
        changed = bytearray(data)
        for _ in range(random_.randrange(1, 5)):
            changed[random_.randrange(len(changed))] = random_.randrange(256)
        data = bytes(changed[: random_.choice((len(changed), random_.randrange(len(changed) + 1)))])
    return data


def rows(random_: random.Random) -> str:
    """A label file."""
    lines = []
    for _ in range(random_.randrange(5)):
        fields = [random_.choice(("0", "1", "0", "1", "2", *NUMBERS))]
        for _ in range(random_.choice((4, 4, 4, 4, 5, 6, 8, 10, 3, 0))):
            fields.append(f"{random_.random():.3f}" if random_.random() < 0.9 else random_.choice(NUMBERS))
        lines.append(random_.choice((" ", " ", " ", "\t", ",", ", ", ";", "  ")).join(fields))
    return random_.choice(("\n", "\n", "\r\n", "\r")).join(lines)


def description(random_: random.Random) -> str:
    """A data.yaml."""
    words = [random_.choice(WORDS) for _ in range(random_.randrange(4))]
    names = random_.choice(
        (
            f"[{', '.join(words)}]",
            "{" + ", ".join(f"{random_.choice((number, word))}: {word}" for number, word in enumerate(words)) + "}",
            "".join(f"\n  {random_.choice((number, word, '-'))}: {word}" for number, word in enumerate(words)),
            "".join(f"\n- {word}" for word in words),
            random_.choice(WORDS),
        )
    )
    entry = random_.choice(("images/train", "images\\train", "/x/y/images/train", "../images/train", "[images/train]",
                            "train.txt", "", "[[a]]", "{a: b}", "~", "images/train/0.png", "labels"))  # fmt: skip
    parts = [f"names: {names}", f"train: {entry}"]
    if random_.random() < 0.3:
        parts.append(f"nc: {random_.choice(('2', '3', 'x', '', '[2]', '-1'))}")
    if random_.random() < 0.3:
        parts.append(f"kpt_shape: {random_.choice(('[1, 2]', '[2, 3]', 'x', '[0, 0]', '[2]', '{}'))}")
    if random_.random() < 0.3:
        parts.append(f"path: {random_.choice(('.', '..', '/nowhere', 'C:/x', 'images', '[x]', ''))}")
    random_.shuffle(parts)
    return "\n".join(parts)


def holds(read: Callable[[], Annotations]) -> Annotations | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = read()
            assert found.boxes.dtype == np.float32 and found.boxes.shape == (len(found.labels), 4)
            assert np.isfinite(found.boxes).all()
            assert ((found.labels >= 0) & (found.labels < len(found.classes))).all()
            assert "" not in found.classes and len(set(found.classes)) == len(found.classes)
            assert (found.sizes >= 0).all()
            require_objects(found)
        except UserError as error:
            assert str(error).strip()
            return None
    return found


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (60, 60)).save(folder / f"{number}.png")


@pytest.mark.slow
def test_no_coco_file_ends_in_anything_but_a_fault_or_a_user_error(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    random_ = random.Random(SEED)
    pictures(tmp_path / "images", 4)
    read = 0
    for _ in range(FILES):
        text = json.dumps(coco(random_))
        (tmp_path / "train.json").write_bytes(damaged(random_, text) if random_.random() < 0.3 else text.encode())
        classes = random_.choice((None, None, ["c1"], ["c0", "zebra"]))
        read += holds(lambda classes=classes: read_coco(tmp_path, "train", classes)) is not None  # type: ignore[misc]
    assert FILES / 10 < read < FILES, read


@pytest.mark.slow
def test_no_label_file_ends_in_anything_but_a_fault_or_a_user_error(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    random_ = random.Random(SEED)
    pictures(tmp_path / "images" / "train", 7)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    read = 0
    for _ in range(FILES // 7):
        (tmp_path / "data.yaml").write_text(
            f"names: [cat, dog]\ntrain: {random_.choice(('images/train', 'train.txt'))}"
        )
        lines = random_.choices((*NUMBERS, *WORDS, "images/train/1.png", "x\\2.png", "/", "\0", "a" * 5000), k=5)
        (tmp_path / "train.txt").write_bytes(damaged(random_, "\n".join(["images/train/0.png", *lines])))
        for number in range(7):
            (tmp_path / "labels" / "train" / f"{number}.txt").write_bytes(damaged(random_, rows(random_)))
        read += holds(lambda: read_yolo(tmp_path, "train")) is not None
    assert read > FILES / 7 / 2, read


@pytest.mark.slow
def test_no_data_yaml_ends_in_anything_but_a_user_error(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    random_ = random.Random(SEED + 1)
    pictures(tmp_path / "images" / "train", 1)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "train.txt").write_text("images/train/0.png")
    read = 0
    for _ in range(FILES):
        (tmp_path / "data.yaml").write_bytes(damaged(random_, description(random_)))
        read += holds(lambda: read_yolo(tmp_path, "train")) is not None
    assert FILES / 20 < read < FILES, read
