"""Evaluation of files: four numbers, scores, encodings, names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from doors import Door
from PIL import Image

BOXES = [[10, 10, 30, 30], [52, 41, 14, 12], [5, 20, 40, 25]]  # xywh, in pictures of 80 x 60


def corners(box: list[float]) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def shares(box: list[float]) -> list[float]:
    return [(box[0] + box[2] / 2) / 80, (box[1] + box[3] / 2) / 60, box[2] / 80, box[3] / 60]


def objects(**changes: object) -> dict:
    """COCO ground truth of three images with an object each; changes: of the first annotation."""
    return {
        "images": [{"id": k, "file_name": f"{k}.jpg", "width": 80, "height": 60} for k in range(3)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            | (changes if k == 0 else {})
            for k, box in enumerate(BOXES)
        ],
    }


def results(change: Callable[[list[float]], list[float]] = list, score: float = 0.9) -> list[dict]:
    return [{"image_id": k, "category_id": 1, "bbox": change(box), "score": score} for k, box in enumerate(BOXES)]


def put(truth: object, found: object, encoding: str = "utf-8") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "gt.json").write_text(json.dumps(truth), encoding=encoding)
        (folder / "det.json").write_text(json.dumps(found), encoding=encoding)

    return make


def folders(
    truth: Callable[[int], str], found: Callable[[int], str], encoding: str = "utf-8", pictures: bool = False
) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name, text in (("gt", truth), ("det", found)):
            (folder / name).mkdir()
            for k in range(3):
                (folder / name / f"{k}.txt").write_text(text(k), encoding=encoding)
        if pictures:
            (folder / "pictures").mkdir()
            for k in range(3):
                Image.new("RGB", (80, 60)).save(folder / "pictures" / f"{k}.jpg")

    return make


def words(*values: object) -> str:
    return " ".join(map(str, values)) + "\n"


def voc(folder: Path) -> None:
    (folder / "gt" / "Annotations").mkdir(parents=True)
    (folder / "det").mkdir()
    for k, box in enumerate(BOXES):
        left, top, right, bottom = corners(box)
        tags = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
        inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags.items())
        (folder / "gt" / "Annotations" / f"{k}.xml").write_text(
            "<annotation><size><width>80</width><height>60</height></size>"
            f"<object><name>cat</name><bndbox>{inner}</bndbox></object></annotation>"
        )
        (folder / "det" / f"{k}.txt").write_text(words("cat", 0.9, *box))


def map_is(value: float | None, boxes: str = "xywh") -> Callable[[Path, str], None]:
    def check(folder: Path, _: str) -> None:
        metrics = json.loads((folder / "out" / "metrics.json").read_text())
        assert metrics["voc"]["mAP_area"] == (None if value is None else pytest.approx(value))
        assert metrics["coco"]["AP"] == (None if value is None else pytest.approx(value))
        assert metrics["protocol"]["boxes"] == boxes

    return check


JSON = "eval predictions=det.json ground_truth=gt.json run_dir=out"
TEXT = "eval predictions=det ground_truth=gt run_dir=out"
THREE = [[500, 400, 540, 440], [300, 620, 375, 655], [503, 400, 540, 440]]  # corners


def door(kind: str, given: str, command: str, code: int, says: str, make: Callable, source: str, check=None) -> Door:
    return Door(kind=kind, given=given, command=command, code=code, says=says, make=make, source=source, check=check)


TIDE = "dbolya/tide #42"
CARTUCHO = "Cartucho/mAP #90"
YOLO = "yolov5 #9160"
NOTEPAD = "Cartucho/mAP #64"
FORMS = "Weed-AI #287"
OWN = "own variant"
DOORS = [
    door("results as they should be", "COCO json", JSON, 0, "boxes=xywh in det.json and gt.json",
         put(objects(), results()), OWN, map_is(1)),
    door("scores in percent", "scores of 90", JSON, 2, "det.json: entry 0 has score 90, must be from 0 to 1; divide",
         put(objects(), results(score=90)), OWN),
    door("a score that is none", "NaN", JSON, 2, "det.json: score of entry 0 is nan, must be finite",
         put(objects(), results(score=float("nan"))), OWN),
    door("corners for sizes", "results xyxy beyond pictures", JSON, 2, "det.json: entry 1 has the box\nadd boxes=xyxy",
         put(objects(), results(corners)), TIDE),
    door("corners for sizes", "results xyxy within pictures", JSON, 2, "fit the ground truth as xyxy (mean IoU 1.00)",
         put(objects(), results(corners)[:1]), TIDE),
    door("corners for sizes", "both xyxy, sizes known", JSON, 2, "gt.json: entry 1 has the box\nadd boxes=xyxy",
         put(objects(bbox=corners(BOXES[0])) | {"annotations": [
             row | {"bbox": corners(row["bbox"])} for row in objects()["annotations"]]}, results(corners)), TIDE),
    door("corners, said to be", "both xyxy", f"{JSON} boxes=xyxy", 0, "boxes=xyxy in det.json and gt.json",
         put(objects() | {"annotations": [row | {"bbox": corners(row["bbox"])} for row in objects()["annotations"]]},
             results(corners)), TIDE, map_is(1, "xyxy")),
    door("corners, said to be, of one file", "results xyxy, ground truth xywh", f"{JSON} boxes=xyxy", 2,
         "whose right or bottom is before its left or top", put(objects(), results(corners)), TIDE),
    door("shares for pixels", "results cx cy w h in 0..1", JSON, 2, "most are shares of the picture\nadd boxes=yolo",
         put(objects(), results(shares)), "detectron2 #2957"),
    door("negative sizes", "results", JSON, 2, "det.json: entry 0 has the box\nwidth or height is negative",
         put(objects(), results(lambda box: [*corners(box)[2:], -box[2], -box[3]])), "cocoapi #546"),
    door("negative sizes", "ground truth", JSON, 2, "gt.json: entry 0 has the box\nwidth or height is negative",
         put(objects(bbox=[40, 40, -30, -30]), results()), "cocoapi #546"),
    door("boxes of another scale", "all outside their pictures", JSON, 2, "beyond its picture of 80 x 60",
         put(objects(), results(lambda box: [box[0] + 500, box[1] + 500, *box[2:]])), TIDE),
    door("a Cartucho folder", "class left top right bottom", TEXT, 2, "as in corners\nadd boxes=xyxy",
         folders(lambda k: words("cat", *THREE[k]), lambda k: words("cat", 0.9, *THREE[k])), CARTUCHO),
    door("a Cartucho folder, said to be", "class left top right bottom difficult", f"{TEXT} boxes=xyxy", 0,
         "2 objects and 1 difficult ones\nboxes=xyxy in det and gt",
         folders(lambda k: words("cat", *THREE[k], *["difficult"] * (k == 2)), lambda k: words("cat", 0.9, *THREE[k])),
         CARTUCHO, map_is(1, "xyxy")),
    door("YOLO labels", "class cx cy w h conf", TEXT, 2, "most are shares of the picture\nadd boxes=yolo",
         folders(lambda k: words(0, *shares(BOXES[k])), lambda k: words(0, *shares(BOXES[k]), 0.9)), YOLO),
    door("YOLO labels without pictures", "class cx cy w h conf", f"{TEXT} boxes=yolo", 2, "add images=<the folder",
         folders(lambda k: words(0, *shares(BOXES[k])), lambda k: words(0, *shares(BOXES[k]), 0.9)), YOLO),
    door("YOLO labels and pictures", "class cx cy w h conf", f"{TEXT} boxes=yolo images=pictures", 0,
         "boxes=yolo in det and gt",
         folders(lambda k: words(0, *shares(BOXES[k])), lambda k: words(0, *shares(BOXES[k]), 0.9), pictures=True),
         YOLO, map_is(1, "yolo")),
    door("shares of another kind", "left top w h, said to be yolo", f"{TEXT} boxes=yolo images=pictures", 2,
         "they are not the shares cx, cy, w, h that boxes=yolo means",
         folders(lambda k: words(0, 0.125, 0.1, 0.5, 0.5), lambda k: words(0, 0.125, 0.1, 0.5, 0.5, 0.9),
                 pictures=True), YOLO),
    door("a byte order mark", "UTF-8 of Notepad", TEXT, 0, "cat",
         folders(lambda k: words("cat", *BOXES[k]), lambda k: words("cat", 0.9, *BOXES[k]), "utf-8-sig"),
         NOTEPAD, map_is(1)),
    door("UTF-16", "text files", TEXT, 0, "cat",
         folders(lambda k: words("cat", *BOXES[k]), lambda k: words("cat", 0.9, *BOXES[k]), "utf-16"),
         NOTEPAD, map_is(1)),
    door("GBK", "text files", TEXT, 2, "is not UTF-8\nsave it as UTF-8",
         folders(lambda k: words("狗熊", *BOXES[k]), lambda k: words("狗熊", 0.9, *BOXES[k]), "gbk"), NOTEPAD),
    door("UTF-16", "json", JSON, 0, "cat", put(objects(), results(), "utf-16"), "labelme #922", map_is(1)),
    door("a byte order mark", "json", JSON, 0, "cat", put(objects(), results(), "utf-8-sig"), "labelme #922",
         map_is(1)),
    door("predictions as ground truth", "exchanged folders", TEXT, 2, "are predictions= and ground_truth= exchanged?",
         folders(lambda k: words("cat", 0.9, *BOXES[k]), lambda k: words("cat", *BOXES[k])), OWN),
    door("ids as text", 'image_id "1"', JSON, 0, "cat",
         put(objects(), [row | {"image_id": str(row["image_id"])} for row in results()]), OWN, map_is(1)),
    door("results of unknown images", "image_id 9", JSON, 2, "det.json: image_id 9 is not in the ground truth",
         put(objects(), [row | {"image_id": 9} for row in results()]), OWN),
    door("no box", "bbox []", JSON, 2, "gt.json: entry 0 of annotations (id 0): bbox is [], and no segmentation",
         put(objects(bbox=[]), results()), FORMS),
    door("no box", "bbox null", JSON, 2, "gt.json: entry 0 of annotations (id 0): bbox is null, and no segmentation",
         put(objects(bbox=None), results()), FORMS),
    door("no area", "area null, iscrowd as text", JSON, 0, "3 images, 3 objects",
         put(objects(area=None, iscrowd="0"), results()), FORMS, map_is(1)),
    door("no list of objects", "annotations null", JSON, 0, "gt.json has no objects that count",
         put(objects() | {"annotations": None}, results()), FORMS, map_is(None)),
    door("polygons without boxes", "no bbox", JSON, 0, "3 images, 3 objects",
         put(objects(bbox=None, segmentation=[[10, 10, 40, 10, 40, 40, 10, 40]]), results()), FORMS, map_is(1)),
    door("a class that is not measured", "cat and zebra in the results", TEXT, 0,
         "det: 3 of 6 detections are of classes that the ground truth does not have ('zebra': 3): they count for noth",
         folders(lambda k: words("cat", *BOXES[k]),
                 lambda k: words("cat", 0.9, *BOXES[k]) + words("zebra", 0.8, *BOXES[k])), OWN, map_is(1)),
    door("a labelme file", "shapes", JSON, 2, "gt.json is a labelme file", put({"shapes": []}, results()), FORMS),
    door("a VOC folder", "Annotations/*.xml", f"{TEXT} inclusive=false", 0, "3 images, 3 objects", voc, FORMS,
         map_is(1)),
    door("nothing found", "results []", JSON, 0, "det.json has no detections", put(objects(), []), OWN, map_is(0)),
    door("nothing to find", "no annotations", JSON, 0, "gt.json has no objects that count\nVOC mAP@.5 area -",
         put(objects() | {"annotations": []}, results()), OWN, map_is(None)),
    door("a form that there is not", "", f"{JSON} boxes=ltrb", 2, "boxes", put(objects(), results()), OWN),
    door("a form of boxes for a checkpoint", "", "eval checkpoint=RUN boxes=xyxy", 2, "not of a checkpoint",
         put(objects(), results()), OWN),
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.kind}, {door.given}")
def test_door(door, walk):
    walk(door)
