"""Annotation files of every kind of damage: a fault or a UserError, never anything else, and never a wrong number."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.core.errors import UserError
from detkit.data.formats.voc.voc import read_voc
from detkit.data.formats.voc.voc_xml import parse_voc
from detkit.data.quality.content import require_objects

SEED = 20_261_128
FILES = 700
NUMBERS = (
    "", " ", "0", "-1", "1", "60", "61", "1.5", "1,5", "1e3", "1e400", "-1e400", "nan", "inf", "-inf", "NaN", "0x10",
    "1_0", "99999999999999999999", "3.5e38", "\uff11\uff12", "twelve", "1 2", "\n7\n", "None", "+3", "--3", "1e-320",
)  # fmt: skip
NAMES = (
    "cat",
    "",
    " ",
    "Cat",
    "cat\ncat",
    "猫",
    "a" * 3000,
    "&amp;",
    "&lt;x&gt;",
    "null",
    "0",
    "\u202ecat",
    "cat/dog",
    "é",
)
FLAGS = ("0", "1", "", "true", "False", "Unspecified", "yes", "maybe", "2", "-1", "nan", "inf", "1.0")
TAGS = ("bndbox", "polygon", "robndbox", "name", "object", "difficult", "size", "xmin", "annotation", "x1", "part")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030", "shift_jis", "latin-1", "cp1252")
DECLARED = (
    *ENCODINGS,
    "utf8",
    "UTF8",
    "unknown",
    "x-mac",
    "idna",
    "rot13",
    "hex",
    "base64",
    "",
    "unicode_escape",
    "big5",
)


def element(random_: random.Random, depth: int = 0) -> str:
    """One object, with some of its parts left out, doubled, renamed or nested."""
    parts = [f"<name>{random_.choice(NAMES)}</name>", f"<difficult>{random_.choice(FLAGS)}</difficult>"]
    for _ in range(random_.choice((0, 1, 1, 1, 2))):
        keys = ["xmin", "ymin", "xmax", "ymax"]
        kind = random_.choice(("bndbox", "bndbox", "bndbox", "polygon", "robndbox", "segm"))
        if kind == "polygon":
            keys = [f"{axis}{number}" for number in range(random_.randrange(5)) for axis in "xy"]
        if kind == "robndbox":
            keys = ["cx", "cy", "w", "h", "angle"]
        if random_.random() < 0.2:
            random_.shuffle(keys)
            keys = keys[random_.randrange(3) :]
        plain = random_.random() < 0.6
        values = [str(random_.randint(-5, 70)) if plain else random_.choice(NUMBERS) for _ in keys]
        inner = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, values, strict=True))
        parts.append(f"<{kind}>{inner}</{kind}>")
    if depth < 2 and random_.random() < 0.1:
        parts.append(element(random_, depth + 1))
    random_.shuffle(parts)
    return f"<object>{''.join(parts[random_.random() < 0.15 :])}</object>"


def document(random_: random.Random, stem: str) -> str:
    """A whole file, most of the time well-formed."""
    size = "".join(
        f"<{key}>{random_.choice((*NUMBERS, '60', '60', '60', '60'))}</{key}>" for key in ("width", "height")
    )
    filename = random_.choice(
        (f"{stem}.png", "", "C:\\x\\0.png", "../../etc/passwd", "/", "\u0301.png", stem, "." * 300)
    )
    objects = "".join(element(random_) for _ in range(random_.randrange(4)))
    root = random_.choice(("annotation",) * 12 + ("annotation xmlns='http://x'", "Annotation", "html", "annotations"))
    head = random_.choice(("", "", "<!-- x -->", "<!DOCTYPE annotation [<!ENTITY e 'x'>]>", "<?pi x?>", "\n\n"))
    text = f"<{root}>{head if 'DOCTYPE' not in head else ''}<filename>{filename}</filename><size>{size}</size>{objects}"
    return f"{head}{text}</{root.split()[0]}>"


def mutated(random_: random.Random, text: str) -> str:
    """The text with a tag renamed, removed or doubled, or a piece of it cut, doubled or replaced."""
    start = random_.randrange(len(text))
    piece = text[start : start + random_.randrange(1, 40)]
    change = random_.randrange(5)
    if change == 0:
        return text.replace(random_.choice(TAGS), random_.choice(TAGS), random_.choice((1, -1)))
    if change == 1:
        return text.replace(piece, "", 1)
    if change == 2:
        return text.replace(piece, piece * random_.choice((2, 50)), 1)
    if change == 3:
        return text[:start] + random_.choice(("&", "<", ">", "\0", "&bogus;", "]]>", "\ufffe", "\x1b")) + text[start:]
    return text[:start]


def content(random_: random.Random, stem: str) -> bytes:
    """The bytes of one file: encoded, declared, and in a third of them damaged."""
    text = document(random_, stem)
    if random_.random() < 0.4:
        text = mutated(random_, text)
    if random_.random() < 0.4:
        text = f'<?xml version="1.0" encoding="{random_.choice(DECLARED)}"?>{text}'
    data = text.encode(random_.choice(("utf-8", "utf-8", *ENCODINGS)), "replace")
    if random_.random() < 0.2:
        damaged = bytearray(data)
        for _ in range(random_.randrange(1, 6)):
            damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        data = bytes(damaged[: random_.choice((len(damaged), random_.randrange(len(damaged))))])
    return data


def holds(read: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read()
        except UserError as error:
            assert str(error).strip()


@pytest.mark.slow
def test_no_file_ends_in_anything_but_a_fault_or_a_user_error(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    random_ = random.Random(SEED)
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    names = [str(number) for number in range(FILES)]
    picture = np.zeros((60, 60, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "JPEGImages" / "0.png")
    for name in names:
        (tmp_path / "JPEGImages" / f"{name}.png").write_bytes((tmp_path / "JPEGImages" / "0.png").read_bytes())
        path = tmp_path / "Annotations" / f"{name}.xml"
        path.write_bytes(content(random_, name))
        holds(lambda path=path: parse_voc(path))  # type: ignore[misc]
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names))

    annotations = read_voc(tmp_path, "train")
    assert annotations.boxes.dtype == np.float32 and annotations.boxes.shape == (len(annotations.labels), 4)
    assert ((annotations.labels >= 0) & (annotations.labels < len(annotations.classes))).all()
    assert "" not in annotations.classes and len(set(annotations.classes)) == len(annotations.classes)
    assert (annotations.sizes >= 0).all()
    unreadable = [fault for fault in annotations.faults if fault.kind == "unreadable annotation"]
    assert len(annotations) + len(unreadable) == FILES, {fault.kind for fault in annotations.faults}
    assert len(annotations) > FILES / 3 and len(unreadable) > FILES / 10  # both kinds are there
    holds(lambda: require_objects(annotations))


@pytest.mark.slow
def test_no_list_ends_in_anything_but_a_user_error(tmp_path: Path) -> None:
    random_ = random.Random(SEED + 1)
    for folder in ("JPEGImages", "Annotations/inner", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a", "inner/a", "b"):
        (tmp_path / "Annotations" / f"{name}.xml").write_text("<annotation/>")
        Image.new("RGB", (4, 4)).save(tmp_path / "JPEGImages" / f"{Path(name).name}.png")
    lines = (
        "a",
        "b.png",
        "C:\\a.jpg",
        "/",
        "..",
        "../../a",
        "inner\\a.xml",
        "a 1",
        " ",
        "\0",
        "a" * 5000,
        "é",
        "-1 -1",
        "~",
    )
    for _ in range(300):
        text = "\n".join(random_.choice(lines) for _ in range(random_.randrange(6)))
        data = text.encode(random_.choice(ENCODINGS), "replace")
        if data and random_.random() < 0.3:
            data = data[random_.randrange(len(data)) :]
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_bytes(data)
        holds(lambda: read_voc(tmp_path, "train", ["cat"]))
