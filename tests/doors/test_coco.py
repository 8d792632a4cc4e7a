"""COCO files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from doors import Door
from inputs import both, picture, write

from detkit.data.formats.coco.coco import read_coco

CHECK = "check_data data=coco data.root=ds data.train_split=train data.val_split=null"
TRAIN = "train QUICK data=coco data.root=ds data.train_split=train data.val_split=null"
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
BOX = [10, 10, 40, 40]


def annotation(number: int, **changes: Any) -> dict[str, Any]:
    row = {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0}
    return {key: value for key, value in (row | changes).items() if value != "missing"}


def content(
    *annotations: dict[str, Any], categories: Any = CATEGORIES, images: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A file of a picture for each annotation, a.png, b.png, ...; images: what is another in each of their entries."""
    entries = [
        {"id": number, "file_name": f"{chr(96 + number)}.png", "width": 80, "height": 60} | (images or {})
        for number in range(1, len(annotations) + 1)
    ]
    return {"images": entries, "annotations": list(annotations), "categories": categories}


def coco(
    text: dict[str, Any] | str | bytes, file: str = "train.json", images: str = "images", count: int = 2
) -> Callable[[Path], None]:
    """Writes `ds`: a json file and pictures."""

    def make(folder: Path) -> None:
        write(folder / "ds" / file, json.dumps(text) if isinstance(text, dict) else text)
        for letter in "abcdefgh"[:count]:
            picture(folder / "ds" / images / f"{letter}.png")

    return make


def reads(
    *boxes: Sequence[float], split: str = "train", classes: Sequence[str] = ("cat", "dog"), ids: Sequence[Any] = (1, 2)
) -> Callable[[Path, str], None]:
    """Holds boxes, classes and their ids of a split."""

    def check(folder: Path, _: str) -> None:
        found = read_coco(folder / "ds", split)
        assert found.boxes.tolist() == [list(map(float, box)) for box in boxes]
        assert found.classes == list(classes)
        assert found.category_ids == list(ids)

    return check


def crowds(*flags: bool) -> Callable[[Path, str], None]:
    def check(folder: Path, _: str) -> None:
        assert read_coco(folder / "ds", "train").difficult.tolist() == list(flags)

    return check


def areas(*values: float) -> Callable[[Path, str], None]:
    def check(folder: Path, _: str) -> None:
        found = read_coco(folder / "ds", "train").areas
        assert found is not None and found.tolist() == list(values)

    return check


def written_ids(folder: Path, _: str) -> None:
    rows = json.loads((folder / "run/predictions.json").read_text())
    assert {row["category_id"] for row in rows} <= {7, 9}
    assert {row["category_id"] for row in rows}


PAIR = content(annotation(1), annotation(2))
POLYGON = {"segmentation": [[10, 10, 40, 10, 40, 40, 10, 40]]}
ROBOFLOW = [
    {"id": 0, "name": "fishes", "supercategory": "none"},
    {"id": 1, "name": "carp", "supercategory": "fishes"},
    {"id": 2, "name": "pike", "supercategory": "fishes"},
]

DOORS = [
    # classes
    Door(
        "a category that only groups others", "category 0, supercategory none, without objects", TRAIN, 0,
        "'fishes' (id 0) has no objects and is only the supercategory of others: it is no class\n"
        "2 objects of 2 classes (carp, pike)",
        "roboflow/rf-detr PR 1303", coco(content(annotation(1), annotation(2, category_id=2), categories=ROBOFLOW)),
        check=reads(BOX, BOX, classes=["carp", "pike"]),
    ),
    Door(
        "a category that groups others and has objects", "the same, with one object", CHECK, 1,
        "class without objects: 1", "",
        coco(content(annotation(1), annotation(2, category_id=0), categories=ROBOFLOW)),
        check=reads(BOX, BOX, classes=["fishes", "carp", "pike"], ids=[0, 1, 2]),
    ),
    Door(
        "two categories of one name", "ids 1 and 3 are cat", CHECK, 1,
        "ds/train.json: categories 1 and 3 are both called 'cat'; taken as one class", "TACO 46",
        coco(content(annotation(1), annotation(2, category_id=3), categories=[*CATEGORIES, {"id": 3, "name": "cat"}])),
        check=reads(BOX, BOX),
    ),
    Door(
        "a category without name", "entry 0", CHECK, 1, "entry 0 of categories has no name: it has {'id': 1}",
        "Mask_RCNN 1439", coco(content(annotation(1, category_id=2), categories=[{"id": 1}, CATEGORIES[1]])),
    ),
    Door(
        "no categories", "an empty list", TRAIN, 2, "ds/train.json has no categories, so there are no classes",
        "CLCXray 2", coco(content(annotation(1), annotation(2), categories=[])),
    ),
    Door(
        "ids as text", "image_id \"1\", category id \"1\"", CHECK, 1, "class without objects: 1", "",
        coco(content(annotation(1, image_id="1", category_id="1"), annotation(2, category_id="1"))),
        check=reads(BOX, BOX),
    ),
    # entries
    Door(
        "bbox null or empty", "bbox null, [] and text", CHECK, 1,
        "entry 1 of annotations (id 2): bbox is null, and no segmentation to put a box around\n"
        "entry 2 of annotations (id 3): bbox is [], and no segmentation to put a box around\n"
        "entry 3 of annotations (id 4): bbox holds 'x', no number",
        "sahi PR 1028",
        coco(content(annotation(1), annotation(2, bbox=None), annotation(3, bbox=[]), annotation(4, bbox=list("x123"))),
             count=4),
        check=reads(BOX),
    ),
    Door(
        "boxes written as text", "bbox [\"10\", \"10\", \"30\", \"30\"]", CHECK, 1, "class without objects: 1", "",
        coco(content(annotation(1, bbox=["10", "10", "30", "30"]))), check=reads(BOX),
    ),
    Door(
        "area null", "one of two", CHECK, 1, "class without objects: 1", "coco-annotator 109",
        coco(content(annotation(1, area=None), annotation(2, area=7))), check=areas(900, 7),
    ),
    Door(
        "iscrowd as text", "\"0\" and \"1\"", CHECK, 1, "class without objects: 1", "sahi PR 1028",
        coco(content(annotation(1, iscrowd="0"), annotation(2, iscrowd="1"))), check=crowds(False, True),
    ),
    Door(
        "annotations null", "a file without objects", TRAIN, 2, "split=train has no objects: not one in 2 images",
        "coco-annotator 109", coco({**PAIR, "annotations": None}),
    ),
    Door(
        "polygons without bbox", "segmentation only", TRAIN, 0, "2 images, 2 objects of 2 classes (cat, dog)",
        "maskrcnn-benchmark 480",
        coco(content(*(annotation(n, bbox="missing", area="missing", **POLYGON) for n in (1, 2)))),
        check=reads(BOX, BOX),
    ),
    Door(
        "run lengths without bbox", "a mask of 60 x 80, columns 10 and 11", CHECK, 1, "class without objects: 1",
        "maskrcnn-benchmark 480",
        coco(content(annotation(1, bbox=None, segmentation={"size": [60, 80], "counts": [605, 90, 4105]}))),
        check=reads([10, 0, 12, 60]),
    ),
    Door(
        "a size that is negative", "bbox [40, 40, -30, -30]", CHECK, 1,
        "entry 0 of annotations (id 1): bbox [40, 40, -30, -30] has a negative width or height", "",
        coco(content(annotation(1, bbox=[40, 40, -30, -30]))), check=reads(),
    ),
    Door(
        "NaN and Infinity", "bbox [NaN, 10, Infinity, 30]", CHECK, 1, "bbox [nan, 10, inf, 30] is not finite",
        "detectron2 946", coco(content(annotation(1, bbox=[float("nan"), 10, float("inf"), 30]), annotation(2))),
        check=reads(BOX),
    ),
    Door(
        "a picture of infinite width", "width Infinity", CHECK, 1, "image 1 (a.png) declares width inf and height 60",
        "detectron2 946", coco(content(annotation(1), images={"width": float("inf")})), check=reads(BOX),
    ),
    Door(
        "an image without file_name", "entry 0", CHECK, 1, "entry 0 of images has no file_name", "Mask_RCNN 1439",
        coco(content(annotation(1), images={"file_name": None})), check=reads(),
    ),
    Door(
        "an image that is listed twice", "the same id", CHECK, 1,
        "image 1 is listed twice, as a.png and as b.png; its first entry counts", "cocoapi 600",
        coco(content(annotation(1), annotation(2, image_id=1), images={"id": 1})), check=reads(BOX, BOX),
    ),
    Door(
        "a file that is listed twice", "ids 1 and 2 are a.png", CHECK, 1, "images 1 and 2 are the same file a.png",
        "cocoapi 600", coco(content(annotation(1), annotation(2), images={"file_name": "a.png"})),
    ),
    Door(
        "annotation ids that repeat", "id 1 twice", CHECK, 1, "annotation id 1 is given to 2 entries", "sahi 98",
        coco(content(annotation(1), annotation(1, image_id=2))), check=reads(BOX, BOX),
    ),
    # layouts
    Door(
        "FiftyOne's export", "data/, labels.json", CHECK.replace("=train", "=labels"), 1, "class without objects: 1",
        "docs.voxel51.com", coco(PAIR, "labels.json", "data"), check=reads(BOX, BOX, split="labels"),
    ),
    Door(
        "pictures in imgs", "imgs/, annotations.json", CHECK.replace("=train", "=annotations"), 1,
        "class without objects: 1", "geti-sdk 162", coco(PAIR, "annotations.json", "imgs"),
        check=reads(BOX, BOX, split="annotations"),
    ),
    Door(
        "CVAT's export", "annotations/instances_Train.json, images/Train/", CHECK.replace("=train", "=Train"), 1,
        "class without objects: 1", "geti-sdk 162", coco(PAIR, "annotations/instances_Train.json", "images/Train"),
        check=reads(BOX, BOX, split="Train"),
    ),
    Door(
        "data.root is the json", "ds/labels.json", CHECK.replace("=ds", "=ds/labels.json"), 2,
        "set data.root=ds data.train_split=labels and data.val_split=null", "",
        coco(PAIR, "labels.json", "data"),
    ),
    Door(
        "data.root is the json of the split", "ds/train.json", CHECK.replace("=ds", "=ds/train.json"), 1,
        "class without objects: 1", "", coco(PAIR),
    ),
    Door(
        "pictures that are nowhere", "no folder of them", TRAIN, 2,
        "has no images\nno picture a.png; looked in ds", "", coco(PAIR, count=0),
    ),
    # bytes
    Door(
        "a file in UTF-16", "größe", CHECK, 0, "no faults", "labelme 922",
        coco(json.dumps(content(annotation(1), categories=[{"id": 1, "name": "größe"}]), ensure_ascii=False)
             .encode("utf-16"), count=1),
        check=reads(BOX, classes=["größe"], ids=[1]),
    ),
    Door(
        "a file in Latin-1", "größe", CHECK, 2, "ds/train.json is not UTF-8 (byte", "labelme 922",
        coco(json.dumps(content(annotation(1), categories=[{"id": 1, "name": "größe"}]), ensure_ascii=False)
             .encode("latin-1")),
    ),
    Door(
        "a comma too many", "after the last list", CHECK, 2, "is not JSON: line 1, column\nis there a comma too many?",
        "labelme 922", coco(json.dumps(PAIR)[:-1] + ",}"),
    ),
    # what is written
    Door(
        "val lacks a class", "categories 7 and 9; the file of val has 9 only",
        TRAIN.replace("data.val_split=null", "data.val_split=val hydra.run.dir=run")
        + " model.postprocess.score_threshold=0", 0, "has no category 'cat' of data.classes", "",
        both(
            coco(content(annotation(1, category_id=7), annotation(2, category_id=9),
                         categories=[{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}])),
            coco(content(annotation(1, category_id=9), categories=[{"id": 9, "name": "dog"}]), "val.json"),
        ),
        check=written_ids,
    ),
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.kind)
def test_door(door, walk):
    walk(door)
