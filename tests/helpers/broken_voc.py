"""Writes a small VOC folder with one fault of every kind: python tests/helpers/broken_voc.py DIR"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 80, 60
Row = tuple[str, str, str, str, str]  # class, xmin, ymin, xmax, ymax as text
SOUND: Row = ("cat", "11", "11", "40", "40")

# image id -> the objects that make it faulty, in the terms of the file: 1-based, inclusive
BOXES: dict[str, list[Row]] = {
    "sound": [SOUND, ("dog", "1", "1", "80", "60")],
    "no_objects": [],
    "unknown_class": [SOUND, ("dgo", "11", "11", "40", "40")],
    "zero_size": [SOUND, ("dog", "21", "11", "20", "40")],
    "one_pixel": [SOUND, ("dog", "21", "11", "21", "11")],
    "inverted": [("dog", "40", "40", "11", "11")],
    "out_of_range": [("dog", "61", "31", "120", "90")],
    "far_out": [SOUND, ("dog", "161", "131", "220", "190")],
    "not_finite": [SOUND, ("dog", "nan", "11", "40", "40")],
    "duplicate_box": [SOUND, SOUND],
    "unreadable_box": [SOUND, ("dog", "left", "11", "40", "40")],
    "truncated": [SOUND],
    "text": [SOUND],
    "no_image": [SOUND],
    "no_xml": [],
    "broken_xml": [],
    "no_size": [SOUND],
    "wrong_size": [SOUND],
    "turned": [SOUND],
    "copy_of_sound": [SOUND],
    "in_both": [SOUND],
}

# (kind, split, part of where) of everything that a check has to name
FAULTS = {
    ("unknown class", "train", "unknown_class.xml"),
    ("zero-size box", "train", "zero_size"),
    ("one-pixel box", "train", "one_pixel"),
    ("inverted box", "train", "inverted.xml"),
    ("out-of-range box", "train", "out_of_range"),
    ("out-of-range box", "train", "far_out"),
    ("not finite box", "train", "not_finite"),
    ("duplicate box", "train", "duplicate_box"),
    ("unreadable box", "train", "unreadable_box.xml"),
    ("unreadable image", "train", "truncated.jpg"),
    ("unreadable image", "train", "text.jpg"),
    ("missing image", "train", "no_image"),
    ("missing annotation", "train", "no_xml.xml"),
    ("unreadable annotation", "train", "broken_xml.xml"),
    ("missing size", "train", "no_size.xml"),
    ("size mismatch", "train", "wrong_size.jpg"),
    ("EXIF-rotated image", "train", "turned.jpg"),
    ("duplicate image", "train", "copy_of_sound"),
    ("duplicate id", "train", "sound.xml"),
    ("split overlap", "val", "in_both"),
    ("split overlap", "val", "other_name"),
}


def write_broken(root: Path) -> Path:
    """Write the folder: splits train and val, classes cat and dog."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, (image_id, rows) in enumerate(BOXES.items()):
        _write_image(root, image_id, number, rows)
    for image_id in ("val_only", "other_name"):
        _write_image(root, image_id, 100, [SOUND])

    images, annotations = root / "JPEGImages", root / "Annotations"
    whole = (images / "truncated.jpg").read_bytes()
    (images / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "text.jpg").write_text("this is no picture")
    (images / "no_image.jpg").unlink()
    (annotations / "no_xml.xml").unlink()
    (annotations / "broken_xml.xml").write_text("<annotation><object>")
    text = (annotations / "no_size.xml").read_text()
    (annotations / "no_size.xml").write_text(text[: text.index("<size>")] + text[text.index("</size>") + 7 :])
    text = (annotations / "wrong_size.xml").read_text()
    (annotations / "wrong_size.xml").write_text(text.replace(f"<width>{WIDTH}<", f"<width>{2 * WIDTH}<"))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(images / "turned.jpg") as picture:
        picture.save(images / "turned.jpg", quality=95, exif=exif)
    (images / "copy_of_sound.jpg").write_bytes((images / "sound.jpg").read_bytes())
    # the same pixels in another format and under another name
    with Image.open(images / "no_objects.jpg") as picture:
        picture.save(images / "other_name.png")
    (images / "other_name.jpg").unlink()

    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join([*BOXES, "sound"]) + "\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("val_only\nin_both\nother_name\n")
    return root


def _write_image(root: Path, image_id: str, seed: int, rows: Sequence[Row]) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 10, WIDTH // 10, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    picture.save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
        for name, xmin, ymin, xmax, ymax in rows
    )
    (root / "Annotations" / f"{image_id}.xml").write_text(
        f"<annotation><filename>{image_id}.jpg</filename><size><width>{WIDTH}</width><height>{HEIGHT}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(write_broken(Path(sys.argv[1])))
