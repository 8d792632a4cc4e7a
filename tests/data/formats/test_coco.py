from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detkit.core.errors import UserError
from detkit.data.formats.coco.coco import read_coco

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "x.png", "height": 40, "width": 60},
        {"id": 3, "file_name": "y.png", "height": 40, "width": 60},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 18, "bbox": [1, 2, 3.5, 4], "area": 9.25, "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 60, 40], "area": 2400, "iscrowd": 1},
    ],
}


def write(root: Path, file: str, images: str, content: dict[str, Any] = CONTENT) -> Path:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))
    for entry in content["images"]:
        Image.new("RGB", (60, 40)).save(root / images / entry["file_name"])
    return root


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/instances_val.json", "images/val"),
        ("annotations/instances_val.json", "val"),
        ("annotations/val.json", "images"),
        ("val.json", "."),
        ("val/_annotations.coco.json", "val"),
        ("valid/_annotations.coco.json", "valid"),
        ("labels.json", "data"),
    ],
)
def test_layouts(tmp_path: Path, file: str, images: str) -> None:
    annotations = read_coco(write(tmp_path, file, images), "labels" if file == "labels.json" else "val")
    assert list(annotations.image_ids) == ["7", "3"]
    assert Path(annotations.image_paths[0]).samefile(tmp_path / images / "x.png")


def test_labels_boxes_crowds_and_areas(tmp_path: Path) -> None:
    annotations = read_coco(write(tmp_path, "annotations/val.json", "images"), "val")
    assert annotations.classes == ["person", "dog"]
    assert annotations.category_ids == [1, 18]
    assert annotations.offsets.tolist() == [0, 0, 2]
    assert annotations.labels.tolist() == [1, 0]
    assert annotations.boxes.tolist() == [[1, 2, 4.5, 6], [0, 0, 60, 40]]
    assert annotations.difficult.tolist() == [False, True]
    assert annotations.areas is not None
    assert annotations.areas.tolist() == [9.25, 2400]
    assert not annotations.faults


def test_given_classes_choose_and_order(tmp_path: Path) -> None:
    root = write(tmp_path, "annotations/val.json", "images")
    annotations = read_coco(root, "val", ["dog"])
    assert annotations.labels.tolist() == [0]
    assert annotations.category_ids == [18]
    assert annotations.left_out == {"person": 1}
    missing = read_coco(root, "val", ["dog", "persn"])
    assert missing.category_ids == [18, None]
    assert "did you mean 'person'?" in missing.faults[0].message


def test_the_root_may_be_the_file(tmp_path: Path) -> None:
    root = write(tmp_path, "annotations/instances_mine.json", "images")
    assert len(read_coco(root / "annotations" / "instances_mine.json", "mine")) == 2
    with pytest.raises(UserError, match=r"data.train_split=mine and data.val_split=null"):
        read_coco(root / "annotations" / "instances_mine.json", "val")


def test_a_path_is_a_split_too(tmp_path: Path) -> None:
    root = write(tmp_path, "labels/mine.json", "images")
    assert len(read_coco(root, "labels/mine.json")) == 2
    assert len(read_coco(root, str(root / "labels" / "mine.json"))) == 2


def test_a_file_without_annotations_is_a_test_set(tmp_path: Path) -> None:
    content = {"images": CONTENT["images"], "categories": CONTENT["categories"]}
    annotations = read_coco(write(tmp_path, "test.json", "images", content), "test")
    assert len(annotations) == 2
    assert annotations.boxes.shape == (0, 4)


def test_broken_entries_are_faults(tmp_path: Path) -> None:
    extra = [
        {"id": 3, "image_id": 3, "category_id": 1, "bbox": [1, 2]},
        {"id": 4, "image_id": 3, "bbox": [0, 0, 1, 1]},
        {"id": 5, "image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"id": 6, "image_id": 3, "category_id": 55, "bbox": [0, 0, 1, 1]},
    ]
    root = write(tmp_path, "val.json", "images", {**CONTENT, "annotations": [*CONTENT["annotations"], *extra]})
    (root / "images" / "x.png").unlink()
    annotations = read_coco(root, "val")
    assert list(annotations.image_ids) == ["3"]
    assert len(annotations.boxes) == 2
    assert sorted(fault.kind for fault in annotations.faults) == [
        "missing image", "missing image", "unknown class", "unreadable box", "unreadable box",
    ]  # fmt: skip


def test_errors_name_the_file_and_what_exists(tmp_path: Path) -> None:
    root = write(tmp_path, "annotations/instances_val2017.json", "images")
    with pytest.raises(UserError, match=r"no split 'val2071'; did you mean 'val2017'\?"):
        read_coco(root, "val2071")
    (root / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad.json is not JSON: line 1, column 2"):
        read_coco(root, "bad")
    (root / "bad.json").write_text("[]")
    with pytest.raises(UserError, match="not COCO json: it has no categories, images"):
        read_coco(root, "bad")


@pytest.mark.real_data
def test_coco33(shared_data: Path) -> None:
    coco = read_coco(shared_data / "coco33", "instances")
    assert (len(coco), len(coco.boxes), int(coco.difficult.sum()), len(coco.classes)) == (33, 246, 3, 80)
    assert coco.category_ids is not None
    assert (coco.category_ids[0], coco.category_ids[-1]) == (1, 90)
    assert (np.diff(coco.boxes.reshape(-1, 2, 2), axis=1) > 0).all()
    assert not coco.faults
