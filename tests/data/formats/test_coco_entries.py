from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detkit.core.errors import UserError
from detkit.data.formats.coco.coco_entries import parse_coco, parse_results, read_coco_file
from detkit.data.formats.coco.coco_file import CocoFile
from detkit.data.formats.coco.coco_mask import segmentation_box

IMAGE = {"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}
CAT = {"id": 1, "name": "cat"}


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 20], "area": 500, "iscrowd": 0, **changes}


def parse(annotations: Any = (), images: Any = (IMAGE,), categories: Any = (CAT,)) -> CocoFile:
    rows = list(annotations) if isinstance(annotations, tuple) else annotations
    return parse_coco({"images": list(images), "categories": list(categories), "annotations": rows}, "x.json")


def only_fault(file: CocoFile) -> tuple[str, str]:
    assert len(file.faults) == 1, file.faults
    assert file.faults[0].where == "x.json"
    return file.faults[0].kind, file.faults[0].message


@pytest.mark.parametrize(
    ("bbox", "message"),
    [
        (None, "bbox is null, and no segmentation"),
        ([], "bbox is [], and no segmentation"),
        ([1, 2], "bbox is [1, 2], must be four numbers"),
        (["a", 1, 2, 3], "bbox holds 'a', no number"),
        ([True, 1, 2, 3], "bbox holds True, no number"),
        ([float("nan"), 1, 2, 3], "is not finite"),
        ([1, 1, float("inf"), 3], "is not finite"),
        ([10**400, 1, 2, 3], "no number"),
        (7, "bbox is 7, must be four numbers"),
        ({"x": 1}, "must be four numbers"),
    ],
)
def test_a_box_that_is_none_is_a_fault_with_the_number_of_its_entry(bbox: Any, message: str) -> None:
    file = parse((annotation(id=5), annotation(bbox=bbox, id=9)))
    kind, text = only_fault(file)
    assert kind == "unreadable box" and text.startswith("entry 1 of annotations (id 9): ") and message in text
    assert [item.box for item in file.objects] == [(10, 10, 40, 30)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": None}, "image_id is null"),
        ({"image_id": [1]}, "image_id is [1]"),
        ({"category_id": {}}, "category_id is {}"),
        ({"category_id": 1.5}, "category_id is 1.5"),
    ],
)
def test_ids_that_are_none_are_faults(changes: dict[str, Any], message: str) -> None:
    assert message in only_fault(parse((annotation(**changes),)))[1]
    missing = annotation()
    del missing[next(iter(changes))]
    assert f"no {next(iter(changes))}" in only_fault(parse((missing,)))[1]


def test_a_negative_size_is_a_fault_where_the_rule_is_cocos(tmp_path: Path) -> None:
    rows = [annotation(id=5), annotation(id=9, bbox=[5, 5, -2, 3])]
    content = {"images": [IMAGE], "categories": [CAT], "annotations": rows}
    assert [item.bbox for item in parse_coco(content, "x.json").objects] == [(10, 10, 30, 20), (5, 5, -2, 3)]
    (tmp_path / "x.json").write_text(json.dumps(content))
    file = read_coco_file(tmp_path / "x.json")
    assert [item.entry for item in file.objects] == [0]
    told = "entry 1 of annotations (id 9): bbox [5, 5, -2, 3] has a negative width or height"
    assert len(file.faults) == 1 and file.faults[0].message.startswith(told)


def test_results_are_read_as_annotations_are() -> None:
    rows = [{"image_id": "1", "category_id": 1.0, "bbox": ["1", 2, 3, 4], "score": 0.5}, {"image_id": 1}, 7]
    file = parse_results(rows, "det.json")
    assert [(item.image_id, item.category_id, item.bbox) for item in file.objects] == [("1", "1", (1, 2, 3, 4))]
    told = [fault.message for fault in file.faults]
    assert told == ["entry 1 of results: no category_id", "entry 2 of results: is 7, not an object"]


def test_numbers_as_text_and_ids_of_either_kind() -> None:
    file = parse(
        (annotation(image_id="1", category_id=1.0, bbox=["10", "1e1", 30.5, " 2 "]),), ({**IMAGE, "width": "80"},)
    )
    assert file.objects[0][1:4] == ("1", "1", (10.0, 10.0, 30.5, 2.0))
    assert file.images[0].size == (60, 80)
    assert not file.faults


@pytest.mark.parametrize(
    ("iscrowd", "crowd"),
    [("0", False), ("1", True), (0, False), (1, True), (True, True), (None, False), ("false", False), (1.0, True)],
)
def test_crowds_by_value(iscrowd: object, crowd: bool) -> None:
    file = parse((annotation(iscrowd=iscrowd),))
    assert file.objects[0].crowd is crowd and not file.faults


def test_areas_and_flags_that_are_none() -> None:
    assert parse((annotation(area=None),)).objects[0].area is None
    assert only_fault(parse((annotation(area=-1),)))[0] == "unreadable area"
    assert parse((annotation(area=-1),)).objects[0].area is None
    assert parse((annotation(area="1e2"),)).objects[0].area == 100
    assert only_fault(parse((annotation(area="big"),)))[0] == "unreadable area"
    assert only_fault(parse((annotation(iscrowd="maybe"),)))[0] == "unreadable iscrowd"


def test_the_box_around_a_segmentation() -> None:
    polygons = [[10, 10, 40, 10, 40, 40], [5, 20, 6, 20, 6, 44]]
    for bbox in (None, []):
        file = parse((annotation(bbox=bbox, segmentation=polygons, area=None),))
        assert file.objects[0].box == (5, 10, 40, 44)
        assert file.objects[0].outlined and file.objects[0].area is None
    assert "list of pairs" in only_fault(parse((annotation(bbox=None, segmentation=[[1, 2, 3]]),)))[1]
    assert "no number" in only_fault(parse((annotation(bbox=None, segmentation=[["a", 2]]),)))[1]


def test_run_lengths_against_pycocotools() -> None:
    random = np.random.default_rng(0)
    for _ in range(60):
        mask = np.zeros((int(random.integers(1, 40)), int(random.integers(1, 40))), np.uint8, order="F")
        y, x = (int(random.integers(0, side)) for side in mask.shape)
        mask[y : y + 7, x : x + 9] = random.random(mask[y : y + 7, x : x + 9].shape) < 0.6
        packed = coco_mask.encode(mask)
        expected = coco_mask.toBbox(packed)
        text = {"size": list(mask.shape), "counts": packed["counts"].decode()}
        flat = mask.flatten(order="F")
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [flat[-1]]]))).tolist()
        plain = {"size": list(mask.shape), "counts": np.diff([0, *edges, len(flat)]).tolist()}
        for runs in (text, plain):
            box = segmentation_box(runs)
            if not mask.any():
                assert box is None
            else:
                assert box is not None
                _, xs = np.nonzero(mask)
                assert box == (xs.min(), box[1], xs.max() + 1, box[3])
                assert [box[0], box[1], box[2] - box[0], box[3] - box[1]] == expected.tolist()


@pytest.mark.parametrize(
    "runs", [{}, {"size": [2, 2]}, {"size": [2, 2], "counts": [1]}, {"size": [2, 2], "counts": "~~"},
             {"size": [0, 2], "counts": []}, {"size": "ab", "counts": [4]}]
)  # fmt: skip
def test_broken_run_lengths(runs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        segmentation_box(runs)


def test_images_and_categories_without_what_they_need() -> None:
    nameless = {"id": 1, "width": 80, "height": 60}
    file = parse((annotation(),), (nameless, {**IMAGE, "id": 2}))
    assert only_fault(file) == ("unreadable entry", f"entry 0 of images has no file_name: it has {nameless}")
    assert file.broken == {"1"}
    assert "entry 0 of categories has no name" in only_fault(parse(categories=({"id": 1}, CAT)))[1]
    assert "entry 1 of images is 5" in only_fault(parse(images=(IMAGE, 5)))[1]
    infinite = {**IMAGE, "width": float("inf")}
    assert only_fault(parse(images=(infinite,)))[0] == "missing size"
    assert parse(images=(infinite,)).images[0].size == (0, 0)
    assert parse(None).objects == []


def test_what_is_there_twice() -> None:
    two = (annotation(), annotation(image_id=2))
    images = (IMAGE, {**IMAGE, "id": 2, "file_name": "b.jpg"})
    file = parse(two, images)
    assert only_fault(file) == ("repeated id", "annotation id 1 is given to 2 entries; each counts as an object")
    assert len(file.objects) == 2
    assert "images 1 and 2 are the same file a.jpg" in only_fault(parse(images=(IMAGE, {**IMAGE, "id": 2})))[1]
    assert (
        "image 1 is listed twice, as a.jpg and as b.jpg"
        in only_fault(parse(images=(IMAGE, {**IMAGE, "file_name": "b.jpg"})))[1]
    )
    assert "categories 1 and 3 are both called 'cat'" in only_fault(parse(categories=({**CAT, "id": 3}, CAT)))[1]
    twice = only_fault(parse(categories=(CAT, {"id": "1", "name": "dog"})))[1]
    assert twice == "category 1 is listed twice, as 'cat' and as 'dog'"


def test_categories_are_by_ascending_id() -> None:
    file = parse(categories=[{"id": value, "name": f"n{value}"} for value in ("10", 9, "b", -1, "a", 100)])
    assert [category.id for category in file.categories] == ["-1", "9", "10", "100", "a", "b"]
    assert [category.number for category in file.categories] == [-1, 9, "10", 100, "a", "b"]


def test_what_is_no_coco_file(tmp_path: Path) -> None:
    for content, message in (
        ([], "no categories, images"),
        ({"images": 1, "categories": []}, "images is 1, not a list"),
    ):
        with pytest.raises(UserError, match=message):
            parse_coco(content, "x.json")
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match=r"cannot read .*a.json: No such file"):
        read_coco_file(path)
    content = json.dumps({"images": [], "categories": [{"id": 1, "name": "größe"}]}, ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(content.encode(encoding))
        assert read_coco_file(path).categories[0].name == "größe"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"a.json is not UTF-8 .*save it as UTF-8"):
        read_coco_file(path)
    path.write_text('{"images": [], "categories": [],}')
    with pytest.raises(UserError, match="a comma too many"):
        read_coco_file(path)
