"""Evaluation of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from doors import Door
from PIL import Image

PAIR = "eval predictions=det ground_truth=gt run_dir=out"
JSON = "eval predictions=det.json ground_truth=gt.json run_dir=out"
BOXES = [[10, 10, 30, 30], [20, 15, 40, 30], [30, 20, 25, 35]]


def coco(form: Callable = lambda box: box, scale: float = 1, **changes) -> Callable[[Path], object]:
    """Write gt.json of three boxes x y w h in pictures of 80x60, and det.json of the same boxes in `form`."""

    def make(folder: Path) -> None:
        rows = [{"id": k + 1, "image_id": k + 1, "category_id": 1, "bbox": box} for k, box in enumerate(BOXES)]
        images = [{"id": k + 1, "file_name": f"{k}.jpg", "width": 80, "height": 60} for k in range(3)]
        found = [row | {"bbox": form(row["bbox"]), "score": 0.9 * scale} for row in rows]
        truth = [rows[0] | changes, *rows[1:]]
        content = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "cat"}]}
        (folder / "gt.json").write_text(json.dumps(content))
        (folder / "det.json").write_text(json.dumps(found))

    return make


def texts(truth: str, found: str, encoding: str = "utf-8", pictures: bool = False) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for name, text, code in (("gt", truth, "utf-8"), ("det", found, encoding)):
            (folder / name).mkdir()
            (folder / name / "a.txt").write_bytes(text.encode(code))
        if pictures:
            (folder / "pictures").mkdir()
            Image.new("RGB", (80, 60)).save(folder / "pictures" / "a.png")

    return make


def ap(value: float) -> Callable[[Path, str], object]:
    def check(folder: Path, output: str) -> None:
        metrics = json.loads((folder / "out" / "metrics.json").read_text())
        assert metrics["voc"]["mAP_area"] == pytest.approx(value)
        assert metrics["coco"]["AP"] == pytest.approx(value)

    return check


def corners(box):
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


CORNERS = "cat 500 400 540 440\ndog 300 620 375 655\ncat 100 200 150 290\ndog 310 420 390 500\n"
SCORED = CORNERS.replace("cat ", "cat .9 ").replace("dog ", "dog .8 ")

DOORS = [
    Door("scores in percent", "det.json", JSON, 2, "score 90 is not within 0..1", make=coco(scale=100)),
    Door("corners for sizes", "det.json xyxy", JSON, 2, "add boxes=xyxy", make=coco(corners)),
    Door("corners, said", "xyxy", f"{JSON} boxes=xyxy", 0, "predictions read as xyxy", make=coco(corners), check=ap(1)),
    Door(
        "centres, said", "cxcywh", f"{JSON} boxes=cxcywh", 0, "predictions read as cxcywh",
        make=coco(lambda b: [b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]]), check=ap(1),
    ),
    Door("sizes below zero", "w < 0", JSON, 2, "has a negative size", make=coco(lambda b: [b[0], b[1], -b[2], b[3]])),
    Door("shares", "", JSON, 2, "add boxes=yolo", make=coco(lambda b: [value / 80 for value in b])),
    Door("beyond the picture", "", JSON, 2, "reach beyond", make=coco(lambda b: [b[0] + 500, *b[1:]])),
    Door("an object without box", "bbox null", JSON, 2, "bbox of entry 0 is None", make=coco(bbox=None)),
    Door("area null", "", JSON, 0, "3 objects", make=coco(area=None), check=ap(1)),
    Door("no form", "", f"{JSON} boxes=xywhh", 2, "boxes=xywhh", make=coco()),
    Door("Cartucho folders", "", PAIR, 2, "add ground_truth_boxes=xyxy", make=texts(CORNERS, SCORED)),
    Door("Cartucho, said", "", f"{PAIR} boxes=xyxy", 0, "read as xyxy", make=texts(CORNERS, SCORED), check=ap(1)),
    Door(
        "YOLO folders", "", PAIR, 2, "add ground_truth_boxes=yolo",
        make=texts("0 .5 .5 .25 .25\n", "0 .5 .5 .25 .25 .9\n"),
    ),
    Door(
        "YOLO, said", "", f"{PAIR} boxes=yolo images=pictures", 0, "read as yolo",
        make=texts("0 .5 .5 .25 .25\n", "0 .5 .5 .25 .25 .9\n", pictures=True), check=ap(1),
    ),
    Door(
        "a byte order mark", "Notepad", PAIR, 0, "1 detections",
        make=texts("cat 10 10 30 30\n", "cat .9 10 10 30 30\n", "utf-8-sig"), check=ap(1),
    ),
    Door(
        "classes of another list", "", PAIR, 2, "none of its classes",
        make=texts("cat 10 10 30 30\n", "0 .9 10 10 30 30\n"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.kind)
def test_door(door, walk):
    walk(door)
