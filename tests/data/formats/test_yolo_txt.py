from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detkit.core.errors import UserError
from detkit.data.formats.yolo.yolo_labels import LabelFinder
from detkit.data.formats.yolo.yolo_line import parse_yolo_line
from detkit.data.formats.yolo.yolo_txt import read_yolo


def write_image(path: Path, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (60, 40)).save(path, exif=exif)


def write_labels(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def test_lines() -> None:
    assert parse_yolo_line("2 0.5 0.25 0.5 0.5", (40, 60)) == (2, (15, 0, 45, 20))
    assert parse_yolo_line("0 0 0.5 0.5 1 1 0.25", (40, 60)) == (0, (0, 10, 60, 40))  # a triangle
    for line in ("0 1 2 3", "0 0.5 0.5 0.5 0.5 0.9", "cat 0 0 1 1"):
        with pytest.raises(ValueError, match=r"want 4|sixth column|no number"):
            parse_yolo_line(line, (40, 60))


@pytest.mark.parametrize("names", ["names: [cat, dog]", "names: {0: cat, 1: dog}"])
def test_yaml_layout(tmp_path: Path, names: str) -> None:
    (tmp_path / "data.yaml").write_text(f"path: .\ntrain: images/a\nval: ../b/images\n{names}\nnc: 2\n")
    write_image(tmp_path / "images/a/1.jpg")
    write_image(tmp_path / "images/a/deep/2.jpg")
    write_image(tmp_path / "b/images/3.jpg")
    write_labels(tmp_path / "b/labels/3.txt")
    write_labels(tmp_path / "labels/a/1.txt", "1 0.5 0.5 1 1", "", "0 0.5 0.5 0.5 0.5")
    train = read_yolo(tmp_path, "train")
    assert train.classes == ["cat", "dog"]
    assert list(train.image_ids) == ["images/a/1", "images/a/deep/2"]
    assert train.labels.tolist() == [1, 0]
    assert train.boxes.tolist() == [[0, 0, 60, 40], [15, 10, 45, 30]]
    assert train.offsets.tolist() == [0, 2, 2]
    assert not train.faults
    assert list(read_yolo(tmp_path, "val").image_ids) == ["b/images/3"]


def test_plain_layouts(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    write_image(tmp_path / "images/train/1.jpg")
    write_labels(tmp_path / "labels/train/1.txt", "1 0.5 0.5 1 1")
    write_image(tmp_path / "test/2.jpg")  # label beside the image
    write_labels(tmp_path / "test/2.txt", "0 0.5 0.5 1 1")
    (tmp_path / "list.txt").write_text("test/2.jpg\nimages/train/1.jpg\nimages/train/gone.jpg\n")
    assert read_yolo(tmp_path, "train").labels.tolist() == [1]
    assert read_yolo(tmp_path, "test").labels.tolist() == [0]
    listed = read_yolo(tmp_path, "list", ["dog", "cat"])
    assert listed.labels.tolist() == [1, 0]
    assert [fault.kind for fault in listed.faults] == ["missing image"]


def test_shares_are_of_the_upright_picture(tmp_path: Path) -> None:
    write_image(tmp_path / "images/train/1.jpg", orientation=6)
    write_labels(tmp_path / "labels/train/1.txt", "0 0.5 0.5 1 1")
    annotations = read_yolo(tmp_path, "train", ["cat"])
    assert annotations.sizes.tolist() == [[60, 40]]
    assert annotations.boxes.tolist() == [[0, 0, 40, 60]]


def test_broken_files_are_faults(tmp_path: Path) -> None:
    write_image(tmp_path / "images/train/1.jpg")
    write_labels(tmp_path / "labels/train/1.txt", "0 0.5 0.5 1 1", "5 0.5 0.5 1 1", "0 0.5", "0 a b c d")
    (tmp_path / "images/train/2.jpg").write_bytes(b"no picture")
    annotations = read_yolo(tmp_path, "train", ["cat"])
    assert annotations.labels.tolist() == [0]
    assert sorted(fault.kind for fault in annotations.faults) == [
        "unknown class", "unreadable box", "unreadable box", "unreadable image",
    ]  # fmt: skip
    assert any("line 3" in fault.message for fault in annotations.faults)


def test_errors_say_what_exists(tmp_path: Path) -> None:
    write_image(tmp_path / "images/train/1.jpg")
    with pytest.raises(UserError, match="names no classes"):
        read_yolo(tmp_path, "train")
    with pytest.raises(UserError, match=r"no split 'trian'; did you mean 'train'\?"):
        read_yolo(tmp_path, "trian", ["cat"])
    (tmp_path / "data.yaml").write_text("names: [cat\n")
    with pytest.raises(UserError, match=r"cannot read .*data.yaml"):
        read_yolo(tmp_path, "train")


@pytest.mark.parametrize(
    ("line", "keypoints", "found"),
    [
        ("1.0 0.5 0.5 1 1", 0, (1, (0, 0, 60, 40))),
        ("0,0.5,0.5,0.5,0.5", 0, (0, (15, 10, 45, 30))),
        ("0, 0.5, 0.5, 0.5, 0.5", 0, (0, (15, 10, 45, 30))),
        ("0;0,5;0,5;0,5;0,5", 0, (0, (15, 10, 45, 30))),
        ("0 0,5 0,5 0,5 0,5", 0, (0, (15, 10, 45, 30))),
        ("0\t0.5\t0.5\t1.01\t1", 0, (0, (0, 0, 60, 40))),
        ("0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.9 0.9 2", 6, (0, (15, 10, 45, 30))),
        ("0 0.5 0.5 0.5 0.5", 6, (0, (15, 10, 45, 30))),
    ],
)
def test_forms_of_a_line(line: str, keypoints: int, found: object) -> None:
    index, box = parse_yolo_line(line, (40, 60), keypoints)
    assert (index, box) == found


@pytest.mark.parametrize(
    ("line", "keypoints", "message"),
    [
        ("0 0.5 0.5 0.5 0.5 0.9", 0, "a sixth column, the confidence"),
        ("0 0.5 0.5 0.5 0.5 0.9 0.1 0.2", 0, "7 numbers after the class: .*kpt_shape"),
        ("0 0.5 0.5 0.5 0.5 0.9 0.9 0.9", 6, "7 numbers after the class: want 4, and 6"),
        ("0 32 24 24 24", 0, "32 is no share of the image: pixels"),
        ("0 nan 0.5 0.5 0.5", 0, "nan is no number"),
        ("1_0 0.5 0.5 0.5 0.5", 0, "is no number"),
        ("0.5 0.5 0.5 0.5 0.5", 0, "class 0.5 is no whole number"),
        ("cat 0.5 0.5 0.5 0.5", 0, "class 'cat' is no number"),
        ("0 0.5 0.5 -0.5 0.5", 0, "a negative width"),
        (",", 0, "is no number"),
    ],
)
def test_lines_that_are_none(line: str, keypoints: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_yolo_line(line, (40, 60), keypoints)


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("images/train/x.jpg", "labels/train/x.txt"),
        ("images/train/x.jpg", "Labels/train/x.TXT"),
        ("train/images/x.jpg", "train/labels/x.jpg.txt"),
        ("train/x.jpg", "train/x.txt"),
        ("train/x.jpg", "train/labels/x.txt"),
        ("train/x.jpg", "labels/train/x.txt"),
        ("pics/train/x.jpg", "annotations/train/x.txt"),
        ("x.jpg", "labels/x.txt"),
    ],
)
def test_where_a_label_file_may_be(tmp_path: Path, picture: str, labels: str) -> None:
    write_image(tmp_path / picture)
    write_labels(tmp_path / labels, "0 0.5 0.5 1 1")
    assert LabelFinder(tmp_path).find(tmp_path / picture) == tmp_path / labels
    (tmp_path / labels).unlink()
    assert LabelFinder(tmp_path).find(tmp_path / picture) is None


def test_no_label_file_is_refused_and_the_places_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "images/train/1.jpg")
    with pytest.raises(UserError, match=r"no label file for any of 1 pictures: 1.txt, .* is in none of .*labels/train"):
        read_yolo(tmp_path, "train", ["cat"])


def test_labels_of_other_splits_are_not_faults_of_this(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / split / f"{split}.jpg")
        write_labels(tmp_path / "labels" / f"{split}.txt", "0 0.5 0.5 1 1")
    assert not read_yolo(tmp_path, "train", ["cat"]).faults
    write_labels(tmp_path / "train" / "lost.txt", "0 0.5 0.5 1 1")
    assert [fault.kind for fault in read_yolo(tmp_path, "train", ["cat"]).faults] == ["labels without picture"]


def test_paths_of_data_yaml_count_below_the_root(tmp_path: Path) -> None:
    write_image(tmp_path / "ds/images/train/1.jpg")
    write_labels(tmp_path / "ds/labels/train/1.txt", "0 0.5 0.5 1 1")
    for path, train in ((".", "images/train"), ("/far/ds", "images\\train"), ("", "../images/train"),
                        ("C:\\ds", "C:\\ds\\images\\train"), ("ds", "/home/me/ds/images/train")):  # fmt: skip
        (tmp_path / "ds/data.yaml").write_text(f"path: {path}\ntrain: {train}\nnames: [cat]\n")
        assert list(read_yolo(tmp_path / "ds", "train").image_ids) == ["images/train/1"]
