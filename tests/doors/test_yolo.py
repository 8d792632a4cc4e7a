"""YOLO folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from doors import Door
from inputs import both, picture, write
from PIL import Image

from detkit.data.formats.yolo.yolo_txt import read_yolo

CHECK = "check_data data=yolo data.root=ds data.val_split=null"
TRAIN = "train QUICK data=yolo data.root=ds data.val_split=null"
ROW = "0 0.4 0.4 0.3 0.4"
BOX = [20, 12, 44, 36]  # of 60 x 80 pixels
SECOND = "1 0.6 0.6 0.2 0.2"
YAML = "train: images/train\nnames: [cat, dog]\n"


def yolo(
    *rows: str, yaml: str | bytes = YAML, labels: str = "labels/train/{}.txt", images: str = "images/train"
) -> Callable[[Path], None]:
    """Writes `ds`: data.yaml, and a picture for each text of a label file, a.png, b.png, ..."""

    def make(folder: Path) -> None:
        if yaml:
            write(folder / "ds/data.yaml", yaml)
        for number, text in enumerate(rows):
            name = chr(97 + number)
            picture(folder / "ds" / images / f"{name}.png")
            write(folder / "ds" / labels.format(name), text)

    return make


def file(name: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda folder: write(folder / name, content)


def reads(
    *boxes: Sequence[float], classes: Sequence[str] = ("cat", "dog"), labels: Sequence[int] | None = None,
    split: str = "train",
) -> Callable[[Path, str], None]:  # fmt: skip
    """Holds boxes and classes of a split."""

    def check(folder: Path, _: str) -> None:
        found = read_yolo(folder / "ds", split)
        assert found.boxes.tolist() == [pytest.approx(box) for box in boxes]
        assert found.classes == list(classes)
        if labels is not None:
            assert found.labels.tolist() == list(labels)

    return check


def named(*classes: str) -> Callable[[Path, str], None]:
    return reads(BOX, classes=classes, labels=[0])


def encoded(folder: Path) -> None:
    """Pictures of every form, and one that cannot be read."""
    yolo(ROW)(folder)
    for name in ("s.avif", "t.jfif", "u.jp2", "v.webp", "w.JPG"):
        picture(folder / "ds/images/train/x.png")
        Image.open(folder / "ds/images/train/x.png").rotate(sum(name.encode()) % 90).save(
            folder / "ds/images/train" / name
        )
        write(folder / f"ds/labels/train/{name[0]}.txt", ROW)
    (folder / "ds/images/train/x.png").unlink()
    write(folder / "ds/images/train/h.heic", b"no picture")
    write(folder / "ds/labels/train/h.txt", ROW)


def link(folder: Path) -> None:
    yolo(ROW)(folder)
    for name in ("images", "labels"):
        (folder / "ds" / name / "train").rename(folder / f"far_{name}")
        (folder / "ds" / name / "train").symlink_to(folder / f"far_{name}")


DOORS = [
    # rows
    Door(
        "classes written as floats", "0.0 and 1.000000e+00", CHECK, 0, "no faults", "pytorch-YOLOv4 PR 199",
        yolo("0.0 0.4 0.4 0.3 0.4\n1.000000e+00 0.6 0.6 0.2 0.2"), check=reads(BOX, [40, 30, 56, 42], labels=[0, 1]),
    ),
    Door(
        "a class that is no whole number", "0.5", CHECK, 1, "line 1: class 0.5 is no whole number", "",
        yolo("0.5 0.4 0.4 0.3 0.4\n" + SECOND),
    ),
    Door(
        "a sixth column", "the confidence", TRAIN, 2,
        "has no objects\nline 1: a sixth column, the confidence? remove it", "ultralytics 1170",
        yolo(f"{ROW} 0.91"),
    ),
    Door(
        "classes counted from 1", "1 and 2, names of 2", CHECK, 1,
        "class 2, but names has 0 to 1: counted from 1?", "yolov3 1601",
        yolo("1 0.4 0.4 0.3 0.4\n2 0.6 0.6 0.2 0.2"), check=reads(),
    ),
    Door(
        "training on classes counted from 1", "1 and 2, names of 2", TRAIN, 2,
        "has no objects\nclass 2, but names has 0 to 1: counted from 1? No object is of class 0", "yolov3 678",
        yolo("1 0.4 0.4 0.3 0.4\n2 0.6 0.6 0.2 0.2"),
    ),
    Door(
        "a class that is not among the names", "7 of 2", CHECK, 1, "line 2: class 7, but names has 0 to 1", "",
        yolo(f"{ROW}\n7 0.6 0.6 0.2 0.2"), check=reads(BOX),
    ),
    Door(
        "keypoints", "kpt_shape: [2, 3]", CHECK, 0, "no faults", "yolov5 10632",
        yolo(f"{ROW} 0.35 0.35 2 0.45 0.45 2", yaml="train: images/train\nkpt_shape: [2, 3]\nnames: [cat]"),
        check=named("cat"),
    ),
    Door(
        "keypoints without visibility", "kpt_shape: [2, 2]", CHECK, 0, "no faults", "yolov5 10632",
        yolo(f"{ROW} 0.35 0.35 0.45 0.45", yaml="train: images/train\nkpt_shape: [2, 2]\nnames: [cat]"),
        check=named("cat"),
    ),
    Door(
        "keypoints without kpt_shape", "visibility 2", CHECK, 1,
        "2 is no share of the image: keypoints without kpt_shape in data.yaml, or pixels?", "",
        yolo(f"{ROW} 0.35 0.35 2 0.45 0.45 2" + "\n" + ROW), check=reads(BOX),
    ),
    Door(
        "polygons among boxes", "a row of 9 numbers", CHECK, 0, "no faults", "yolov7 1822",
        yolo(f"{ROW}\n1 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6"), check=reads(BOX, [8, 6, 40, 36], labels=[0, 1]),
    ),
    Door(
        "just beyond the border", "1.0021 in a polygon, 1.0002 in a box", CHECK, 0, "no faults", "yolov3 569",
        yolo("0 0.1 0.1 1.0021 0.1 1.0 0.9\n1 0.95 0.5 0.1004 0.4"), check=reads([8, 6, 80, 54], [71.984, 18, 80, 42]),
    ),
    Door(
        "pixels", "0 32 24 24 24", TRAIN, 2, "has no objects\nline 1: 32 is no share of the image: pixels?",
        "yolov5 10632", yolo("0 32 24 24 24"),
    ),
    Door(
        "commas", "0,0.4,0.4,0.3,0.4 and decimal commas", CHECK, 1, "class without objects: 1", "yolov3 569",
        yolo(ROW.replace(" ", ","), "0 0,4 0,4 0,3 0,4", ROW.replace(" ", ", ")), check=reads(BOX, BOX, BOX),
    ),
    Door(
        "tabs and CRLF", "tabs, \\r\\n, empty lines", CHECK, 0, "no faults", "yolov3 569",
        yolo(ROW.replace(" ", "\t") + "\r\n\r\n \r\n" + SECOND + "\r\n"), check=reads(BOX, [40, 30, 56, 42]),
    ),
    Door(
        "nan and negative sizes", "nan, -0.3", CHECK, 1,
        "line 1: nan is no number\nline 2: a negative width or height", "yolov7 1822",
        yolo(f"0 nan 0.4 0.3 0.4\n0 0.4 0.4 -0.3 0.4\n{ROW}"), check=reads(BOX),
    ),
    # names
    Door(
        "numbers as text", "names: {'0': cat, '1': dog}", CHECK, 1, "class without objects: 1", "ultralytics 639",
        yolo(ROW, yaml="train: images/train\nnames: {'0': cat, '1': dog}"), check=named("cat", "dog"),
    ),
    Door(
        "numbers with gaps", "names: {0: cat, 5: dog}", CHECK, 0, "no faults", "",
        yolo(f"{ROW}\n5 0.6 0.6 0.2 0.2", yaml="train: images/train\nnames: {0: cat, 5: dog}"),
        check=reads(BOX, [40, 30, 56, 42], labels=[0, 1]),
    ),
    Door(
        "names before numbers", "names: {cat: 0, dog: 1}", CHECK, 1, "class without objects: 1", "ultralytics 6032",
        yolo(ROW, yaml="train: images/train\nnames: {cat: 0, dog: 1}"), check=named("cat", "dog"),
    ),
    Door(
        "one word", "names: crane", CHECK, 0, "no faults", "yolov5 9194",
        yolo(ROW, yaml="train: images/train\nnc: 1\nnames: crane"), check=named("crane"),
    ),
    Door(
        "words with commas", "names: bat, fox", TRAIN, 2,
        "ds/data.yaml: names is the text 'bat, fox', not a list: write names: [bat, fox]", "supervision PR 223",
        yolo(ROW, yaml="train: images/train\nnc: 2\nnames: bat, fox"),
    ),
    Door(
        "no blank after the colon", "0:cat", TRAIN, 2,
        "names is the text '0:cat 1:dog', as a colon has no blank after it: write names: [cat, dog]", "ultralytics 639",
        yolo(ROW, yaml="train: images/train\nnames:\n  0:cat\n  1:dog\n"),
    ),
    Door(
        "nc and names differ", "nc: 3, two names", TRAIN, 2,
        "ds/data.yaml: nc is 3, but names has 2 (cat, dog): correct one of them", "yolov5 9194",
        yolo(ROW, yaml=f"{YAML}nc: 3\n"),
    ),
    Door(
        "nc without names", "nc: 2", TRAIN, 2, "names no classes: set data.classes, or write data.yaml with `names`",
        "yolov5 9194", yolo(ROW, yaml="train: images/train\nnc: 2"),
    ),
    Door(
        "words of YAML", "names: [no, yes]", CHECK, 1, "no object of class 'yes'", "ultralytics 1630",
        yolo(ROW, yaml="train: images/train\nnames: [no, yes]"), check=named("no", "yes"),
    ),
    Door(
        "numbers of YAML", "names: [02146, 16:9, 1e3, null, 1_000]", CHECK, 1, "no object of class '16:9'",
        "yolov5 11439", yolo(ROW, yaml="train: images/train\nnames: [02146, 16:9, 1e3, null, 1_000]"),
        check=named("02146", "16:9", "1e3", "null", "1_000"),
    ),
    Door(
        "a name twice", "names: [cat, cat]", TRAIN, 2, "ds/data.yaml: classes 0 and 1 are both called 'cat'", "",
        yolo(ROW, yaml="train: images/train\nnames: [cat, cat]"),
    ),
    # label files
    Door(
        "Labels", "Labels/train/a.txt", CHECK, 1, "class without objects: 1", "yolov5 13610",
        yolo(ROW, labels="Labels/train/{}.txt"), check=reads(BOX),
    ),
    Door(
        "annotations", "annotations/train/a.txt", CHECK, 1, "class without objects: 1", "yolov5 11085",
        yolo(ROW, labels="annotations/train/{}.txt"), check=reads(BOX),
    ),
    Door(
        "labels beside the pictures' folder", "pics/train/a.png, labels/train/a.txt", CHECK, 1,
        "class without objects: 1", "",
        yolo(ROW, images="pics/train", yaml="train: pics/train\nnames: [cat, dog]"), check=reads(BOX),
    ),
    Door(
        "labels in the pictures' folder", "train/a.png, train/labels/a.txt", CHECK, 1, "class without objects: 1", "",
        yolo(ROW, images="train", labels="train/labels/{}.txt", yaml="train: train\nnames: [cat, dog]"),
        check=reads(BOX),
    ),
    Door(
        "TXT", "a.TXT", CHECK, 1, "class without objects: 1", "yolov5 4460",
        yolo(ROW, labels="labels/train/{}.TXT"), check=reads(BOX),
    ),
    Door(
        "the picture's suffix kept", "a.png.txt", CHECK, 1, "class without objects: 1", "yolov5 13610",
        yolo(ROW, labels="labels/train/{}.png.txt"), check=reads(BOX),
    ),
    Door(
        "label files that are nowhere", "truth/train/a.txt", TRAIN, 2,
        "no label file for any of 2 pictures: a.txt, of ds/images/train/a.png, is in none of ds/labels/train",
        "yolov5 13610", yolo(ROW, ROW, labels="truth/train/{}.txt"),
    ),
    Door(
        "some without a label file", "one of two", CHECK, 1,
        "1 of 2 pictures have no label file, as ds/images/train/b.png: taken as pictures without objects", "",
        both(yolo(ROW), lambda f: picture(f / "ds/images/train/b.png")), check=reads(BOX),
    ),
    Door(
        "a label file without picture", "labels/train/z.txt", CHECK, 1,
        "ds/labels/train/z.txt: is the label file of no picture of the split", "",
        both(yolo(f"{ROW}\n{SECOND}"), file("ds/labels/train/z.txt", ROW)),
    ),
    # bytes, lists, layouts
    Door(
        "names in GBK", "classes.txt", CHECK, 2, "ds/classes.txt is not UTF-8 (byte", "PyTorch-YOLOv3 374",
        both(yolo(ROW, yaml=""), file("ds/classes.txt", "猫\n狗\n".encode("gbk"))),
    ),
    Door(
        "names and lists in UTF-16", "classes.txt, train.txt", CHECK, 1, "class without objects: 1", "labelImg 364",
        both(
            yolo(ROW, yaml="", labels="labels/pics/{}.txt", images="images/pics"),
            file("ds/classes.txt", "猫\r\n狗\r\n".encode("utf-16")),
            file("ds/train.txt", "images/pics/a.png\r\n".encode("utf-16")),
        ),
        check=named("猫", "狗"),
    ),
    Door(
        "a list of another machine", "D:\\data\\ds\\images\\pics\\a.png, /home/me/ds/images/pics/b.png", CHECK, 0,
        "no faults", "darknet 1186",
        both(
            yolo(ROW, SECOND, yaml="train: train.txt\nnames: [cat, dog]", labels="labels/pics/{}.txt",
                 images="images/pics"),
            file("ds/train.txt", "D:\\data\\ds\\images\\pics\\a.png\n/home/me/ds/images/pics/b.png\n"),
        ),
        check=reads(BOX, [40, 30, 56, 42], labels=[0, 1]),
    ),
    Door(
        "path of another machine", "path: /home/me/ds, train: D:/x/images/train", CHECK, 1,
        "class without objects: 1", "",
        yolo(ROW, yaml="path: /home/me/ds\ntrain: D:/x/images/train\nnames: [cat, dog]"), check=reads(BOX),
    ),
    Door(
        "several folders", "train: [images/a, images/b]", CHECK, 0, "no faults", "",
        both(
            yolo(ROW, yaml="train: [images/a, images/b]\nnames: [cat, dog]", images="images/a",
                 labels="labels/a/{}.txt"),
            lambda f: picture(f / "ds/images/b/c.png"), file("ds/labels/b/c.txt", SECOND),
        ),
        check=reads(BOX, [40, 30, 56, 42], labels=[0, 1]),
    ),
    Door(
        "valid for val", "valid/images, and data.val_split=val", "check_data data=yolo data.root=ds", 0, "no faults",
        "", both(yolo(f"{ROW}\n{SECOND}"), lambda f: picture(f / "ds/valid/images/v.png"),
             file("ds/valid/labels/v.txt", f"{ROW}\n{SECOND}")),
        check=reads(BOX, [40, 30, 56, 42], split="val"),
    ),
    Door(
        "data.root is data.yaml", "", CHECK.replace("=ds", "=ds/data.yaml"), 0, "no faults", "",
        yolo(f"{ROW}\n{SECOND}"),
    ),
    Door(
        "links to folders", "images/train and labels/train are links", CHECK, 1, "class without objects: 1", "", link,
        check=reads(BOX),
    ),
    Door(
        "pictures of every form", "avif, jfif, jp2, webp, JPG; heic", CHECK, 1,
        "passed over in ds/images/train, as no pictures that can be read: 1 x .heic\n"
        "ds/labels/train/h.txt: is the label file of no picture of the split; there is h.heic, which cannot be read",
        "ultralytics PR 23358", encoded, check=reads(*[BOX] * 6),
    ),
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.kind)
def test_door(door, walk):
    walk(door)
