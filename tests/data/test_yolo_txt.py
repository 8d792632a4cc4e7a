from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detkit.data.yolo_line import parse_yolo_line
from detkit.data.yolo_txt import read_yolo
from detkit.errors import UserError


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
