from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detkit.data.voc import read_voc
from detkit.data.voc_layout import read_ids
from detkit.errors import UserError


def test_boxes_become_zero_based_half_open(make_voc) -> None:
    root = make_voc({"a": [("cat", (1, 1, 60, 40), False), ("dog", (2.5, 3, 10, 12), True)], "b": []})
    annotations = read_voc(root, "train")
    assert annotations.classes == ["cat", "dog"]  # not "head", the name of a part
    assert annotations.boxes.tolist() == [[0, 0, 60, 40], [1.5, 2, 10, 12]]
    assert annotations.difficult.tolist() == [False, True]
    assert annotations.sizes.tolist() == [[40, 60], [40, 60]]
    assert list(annotations.image_ids) == ["a", "b"]
    assert Path(annotations.image_paths[0]).is_file()
    assert not annotations.faults


def test_classes_are_the_same_for_every_split(make_voc) -> None:
    root = make_voc({"a": [("cat", (1, 1, 5, 5), False)]})
    make_voc({"b": [("dog", (1, 1, 5, 5), False)]}, split="val")
    assert read_voc(root, "train").classes == read_voc(root, "val").classes == ["cat", "dog"]
    val = read_voc(root, "val", classes=["dog", "cat"])
    assert val.classes == ["dog", "cat"]
    assert val.labels.tolist() == [0]


def test_joined_splits_and_folders(tmp_path: Path, make_voc) -> None:
    one = [("cat", (1, 1, 5, 5), False)]
    make_voc({"1": one}, root=tmp_path / "VOC2007")
    make_voc({"1": one, "2": []}, root=tmp_path / "VOC2012")
    make_voc({"3": one}, split="val", root=tmp_path / "VOC2012")
    both = read_voc(tmp_path, "VOC2007/train+VOC2012/train")
    assert list(both.image_ids) == ["VOC2007/1", "VOC2012/1", "VOC2012/2"]
    assert list(read_voc(tmp_path / "VOC2012", "train+val").image_ids) == ["1", "2", "3"]
    assert list(read_voc(tmp_path, "VOC2012/train").image_ids) == ["1", "2"]


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".bmp", ".tiff"])
def test_any_image_suffix(make_voc, suffix: str) -> None:
    annotations = read_voc(make_voc({"a": []}, suffix=suffix), "train", ["cat"])
    assert annotations.image_paths[0].endswith(suffix)


def test_split_lines_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "cat_train.txt"
    path.write_bytes(b"\xef\xbb\xbf2008_000002 -1\r\n2008_000003  1\r\n\r\nmy photo 7 \n")
    assert read_ids(path) == ["2008_000002", "2008_000003", "my photo 7"]


def test_a_missing_split_names_those_that_exist(make_voc) -> None:
    root = make_voc({"a": []}, split="trainval")
    with pytest.raises(
        UserError, match=r"no split 'trainvall'; did you mean 'trainval'\?.*ImageSets/Main/trainvall.txt"
    ):
        read_voc(root, "trainvall")


def test_broken_files_are_faults_not_crashes(make_voc) -> None:
    root = make_voc({"good": [("cat", (1, 1, 5, 5), False)], "gone": [], "torn": [], "unseen": [], "odd": []})
    (root / "Annotations" / "gone.xml").unlink()
    (root / "Annotations" / "torn.xml").write_text("<annotation><object>")
    (root / "JPEGImages" / "unseen.png").unlink()
    (root / "Annotations" / "odd.xml").write_text(
        "<annotation><object><name>cat</name></object><object><name>cat</name><bndbox><xmin>a</xmin></bndbox>"
        "</object></annotation>"
    )
    annotations = read_voc(root, "train")
    assert list(annotations.image_ids) == ["good", "odd"]
    kinds = sorted(fault.kind for fault in annotations.faults)
    assert kinds == [
        "missing annotation", "missing image", "missing size", "unreadable annotation", "unreadable box",
        "unreadable box",
    ]  # fmt: skip
    assert all(any(name in fault.where for name in ("gone", "torn", "unseen", "odd")) for fault in annotations.faults)


@pytest.mark.real_data
def test_real_sets(shared_data: Path) -> None:
    voc = read_voc(shared_data / "voc2012_100" / "VOC2012", "val")
    assert (len(voc), len(voc.boxes), int(voc.difficult.sum()), len(voc.classes)) == (100, 273, 38, 20)
    bccd = [read_voc(shared_data / "bccd", split) for split in ("train", "val", "test")]
    assert [len(part) for part in bccd] == [205, 87, 72]
    assert sum(len(part.boxes) for part in bccd) == 4888
    assert bccd[0].classes == ["Platelets", "RBC", "WBC"]
    raccoon = read_voc(shared_data / "raccoon", "all")
    assert (len(raccoon), len(raccoon.boxes)) == (200, 217)
    assert len(np.unique(raccoon.sizes, axis=0)) == 133
