from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.core.errors import UserError
from detkit.data.formats.voc.voc import read_voc
from detkit.data.formats.voc.voc_layout import read_ids
from detkit.data.formats.voc.voc_xml import parse_voc


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


def test_corners_are_ordered_before_the_shift(make_voc) -> None:
    """The box of a pair of corners does not depend on which of them was drawn first."""
    rows = [(11, 6, 40, 35), (40, 35, 11, 6), (40, 6, 11, 35), (11, 35, 40, 6)]
    annotations = read_voc(make_voc({str(number): [("cat", row, False)] for number, row in enumerate(rows)}), "train")
    assert annotations.boxes.tolist() == [[10, 5, 40, 35]] * 4
    assert [fault.kind for fault in annotations.faults] == ["inverted box"] * 3
    empty = read_voc(make_voc({"a": [("cat", (21, 6, 20, 35), False)]}), "train")
    assert empty.boxes.tolist() == [[20, 5, 20, 35]]  # half-open and without an inside, not two pixels wide


@pytest.mark.parametrize(
    ("text", "difficult", "faults"),
    [("1", True, 0), ("true", True, 0), ("Yes", True, 0), ("0", False, 0), ("", False, 0), ("Unspecified", False, 0),
     ("1.0", True, 0), ("maybe", False, 1)],
)  # fmt: skip
def test_the_words_for_difficult(make_voc, text: str, difficult: bool, faults: int) -> None:
    root = make_voc({"a": [("cat", (1, 1, 5, 5), False)]})
    path = root / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<difficult>0<", f"<difficult>{text}<"))
    annotations = read_voc(root, "train")
    assert annotations.difficult.tolist() == [difficult]
    assert len(annotations.faults) == faults


def test_a_turned_box_becomes_the_box_around_it(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    box = "<cx>50</cx><cy>40</cy><w>20</w><h>10</h><angle>1.5707963</angle>"
    path.write_text(f"<annotation><object><name>x</name><robndbox>{box}</robndbox></object></annotation>")
    assert np.allclose(parse_voc(path).objects[0].box, [44, 29, 55, 50], atol=1e-4)


def test_a_picture_named_by_two_files_is_that_of_the_first(make_voc) -> None:
    root = make_voc({"a": [], "b": [("cat", (1, 1, 5, 5), False)]})
    (root / "JPEGImages" / "b.png").unlink()
    path = root / "Annotations" / "b.xml"
    path.write_text(path.read_text().replace("b.png", "a.png"))
    annotations = read_voc(root, "train", ["cat"])
    assert list(annotations.image_ids) == ["a"] and len(annotations.boxes) == 0
    assert [fault.kind for fault in annotations.faults] == ["ambiguous image"]


def test_sub_folders_and_names_that_repeat_in_them(make_voc) -> None:
    root = make_voc({"a": [("cat", (1, 1, 5, 5), False)], "b": []})
    for kind, suffix in (("Annotations", "xml"), ("JPEGImages", "png")):
        for folder in ("one", "two"):
            (root / kind / folder).mkdir()
            shutil.copy(root / kind / f"a.{suffix}", root / kind / folder / f"x.{suffix}")
    (root / "ImageSets" / "Main" / "train.txt").write_text("one/x\n/old/place/two/x.png\nx\nb\n")
    annotations = read_voc(root, "train")
    assert list(annotations.image_ids) == ["one/x", "two/x", "b"]
    assert [Path(path).parent.name for path in annotations.image_paths] == ["one", "two", "JPEGImages"]
    assert [fault.kind for fault in annotations.faults] == ["ambiguous annotation"]


def test_joined_folders_of_splits_have_ids_of_their_own(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / split / "1.png")
        (tmp_path / split / "1.xml").write_text("<annotation><filename>1.png</filename></annotation>")
    assert list(read_voc(tmp_path, "train+val", ["cat"]).image_ids) == ["train/1", "valid/1"]
    assert list(read_voc(tmp_path, "val", ["cat"]).image_ids) == ["1"]


def test_a_picture_without_xml_may_be_one_without_objects(make_voc) -> None:
    root = make_voc({"a": [("cat", (1, 1, 5, 5), False)], "b": []})
    (root / "Annotations" / "b.xml").unlink()
    annotations = read_voc(root, "train", missing_annotation="empty")
    assert not annotations.faults and annotations.sizes.tolist() == [[40, 60], [40, 60]]
    with pytest.raises(UserError, match=r"missing_annotation=none: choose one of fault, empty"):
        read_voc(root, "train", missing_annotation="none")


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
