from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detkit.box_files.box_form import Form, WrittenBoxes, to_xyxy
from detkit.box_files.coco_json import coco_results
from detkit.box_files.files import evaluate_files, read_ground_truth, read_predictions
from detkit.box_files.form_match import better_form
from detkit.box_files.reference import ImageNames
from detkit.core.errors import UserError
from detkit.metric.average_precision import curves
from detkit.metric.match import group, voc_argmax
from detkit.metric.records import GroundTruth, Predictions

THRESHOLDS = (0.1, 0.3, 0.5, 0.75)


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def coco_file(path: Path, **changes) -> Path:
    content = {
        "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg"}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 10, 20], "area": 150, "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 1},
        ],
    }
    path.write_text(json.dumps(content | changes))
    return path


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("detections", "objects"),
    [
        ("object_detection_metrics_sample_2/detections", "object_detection_metrics_sample_2/groundtruths"),
        ("review_test_case_1/dets", "review_test_case_1/gts"),
    ],
)
def test_published_voc_numbers(shared_data: Path, detections: str, objects: str):
    folder = shared_data / "fixtures"
    metrics = evaluate_files(folder / detections, folder / objects, iou_thresholds=THRESHOLDS)
    by_iou = metrics["voc"]["by_iou"].values()
    assert [row["mAP_area"] for row in by_iou] == pytest.approx([0.3371980676, 0.2456866804, 0.0222222222, 0], abs=1e-9)
    published = [0.3333333333, 0.2683982683, 0.0303030303, 0]  # with 9 of 15 found taken as below 0.6 at IoU .1
    assert [row["mAP_11pt_float"] for row in by_iou] == pytest.approx(published, abs=1e-9)
    exact = [0.3333333333 + 9 / 23 / 11, *published[1:]]
    assert [row["mAP_11pt"] for row in by_iou] == pytest.approx(exact, abs=1e-4)


@pytest.mark.real_data
def test_published_curve(shared_data: Path):
    folder = shared_data / "fixtures" / "object_detection_metrics_sample_2"
    listed = [
        [float(word.strip("' ")) for word in line.split("[")[1].split("]")[0].split(",")]
        for line in (folder / "results" / "results.txt").read_text().splitlines()
        if line.startswith(("Precision:", "Recall:"))
    ]
    reference = read_ground_truth(folder / "groundtruths")
    predictions, classes = read_predictions(folder / "detections", reference)
    grouped = group(predictions, reference.ground_truth, len(classes))
    curve = curves(grouped, voc_argmax(grouped, [0.3]))[0]
    assert curve.precision == pytest.approx(listed[0], abs=0.005 + 1e-9)
    assert curve.recall == pytest.approx(listed[1], abs=0.005 + 1e-9)


def test_coco_json(tmp_path):
    reference = read_ground_truth(coco_file(tmp_path / "gt.json"))
    truth = reference.ground_truth
    assert reference.classes == ["cat", "dog"] and truth.image_ids == ["3", "7"]
    assert truth.image.tolist() == [1, 0] and truth.labels.tolist() == [1, 0]
    assert truth.boxes.tolist() == [[1, 2, 11, 22], [0, 0, 5, 5]] and truth.area.tolist() == [150, 25]
    assert truth.crowd.tolist() == [False, True] and truth.difficult.tolist() == [False, True]


@pytest.mark.parametrize("wrap", [list, lambda rows: {"annotations": rows}])
def test_results_round_trip(tmp_path, wrap):
    reference = read_ground_truth(coco_file(tmp_path / "gt.json"))
    found = Predictions(image=[1, 0], boxes=[[1, 2, 11, 22], [0, 0, 5, 5.5]], scores=[1 / 3, 0.5], labels=[1, 0])
    rows = coco_results(found, reference.ground_truth.image_ids, category_ids=[2, 90])
    assert rows[0] == {"image_id": 7, "category_id": 90, "bbox": [1, 2, 10, 20], "score": 1 / 3}
    (tmp_path / "found.json").write_text(json.dumps(wrap(rows)))
    back, _ = read_predictions(tmp_path / "found.json", reference)
    for name in ("image", "boxes", "scores", "labels"):
        assert getattr(back, name).tolist() == getattr(found, name).tolist()


def test_results_that_list_their_own_ids(tmp_path):
    reference = read_ground_truth(coco_file(tmp_path / "gt.json"))
    content = {
        "images": [{"id": 0, "file_name": "b.png"}],
        "categories": [{"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 0, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 0.5}],
    }
    (tmp_path / "found.json").write_text(json.dumps(content))
    found, _ = read_predictions(tmp_path / "found.json", reference)
    assert found.image.tolist() == [1] and found.labels.tolist() == [1]


def test_results_keep_names_that_are_no_numbers():
    found = Predictions(image=[0, 1], boxes=np.ones((2, 4)), scores=[1, 1], labels=[0, 1])
    rows = coco_results(found, ["000005", "2007_000027"])
    assert [(row["image_id"], row["category_id"]) for row in rows] == [("000005", 1), ("2007_000027", 2)]


def test_text_folders(tmp_path):
    objects = write(tmp_path / "gt", {"a.txt": "dining table 0 0 9 9\n\n", "b.txt": ""})
    found = write(tmp_path / "found", {"a.txt": "dining table .5 0 0 9 9\nzebra .4 0 0 9 9\n"})
    metrics = evaluate_files(found, objects)
    assert metrics["protocol"]["num_images"] == 2 and metrics["protocol"]["text_boxes"] == "inclusive"
    assert metrics["voc"]["per_class"]["dining table"]["ap_area"] == 1
    assert metrics["voc"]["per_class"]["zebra"]["ap_area"] is None
    assert read_ground_truth(objects).ground_truth.boxes.tolist() == [[0, 0, 10, 10]]
    assert read_ground_truth(objects, inclusive=False).ground_truth.boxes.tolist() == [[0, 0, 9, 9]]


def test_text_predictions_of_coco_images(tmp_path):
    reference = read_ground_truth(coco_file(tmp_path / "gt.json"))
    folder = write(tmp_path / "found", {"b.txt": "dog .5 1 2 10 20"})
    found, classes = read_predictions(folder, reference, inclusive=False)
    assert classes == ["cat", "dog"] and found.image.tolist() == [1] and found.labels.tolist() == [1]


def row(**changes):
    return {"image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 0.5} | changes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(image_id=8)], "image_id 8 is not in the ground truth"),
        ([row(category_id=1)], "category_id 1 is not in the ground truth"),
        ([row(bbox=[1, 2, 3])], r"entry 0 of results: bbox is \[1, 2, 3\], must be four numbers x, y, width, height"),
        ([row(), row(score=float("nan"))], "score of entry 1 is nan, must be finite"),
        ([row(), row(score="high")], "score of entry 1 is 'high', must be a number"),
        ([{"image_id": 7}], "entry 0 of results: no category_id"),
        ([{"image_id": 7}, 5], r"entry 0 of results: no category_id \(and 1 more\)"),
        ([{key: value for key, value in row().items() if key != "score"}], "entry 0, .* has no score"),
        ([row(bbox=[4, 4, -1, 2])], "entry 0 has the box .* negative"),
        ({"a": 1}, "is no COCO results file"),
    ],
)
def test_bad_results_are_named(tmp_path, rows, message):
    reference = read_ground_truth(coco_file(tmp_path / "gt.json"))
    (tmp_path / "found.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path / "found.json", reference)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.json does not exist"):
        read_ground_truth(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad\.json is not JSON: line 1"):
        read_ground_truth(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match=r"list\.json is not COCO json: it has no categories, images"):
        read_ground_truth(tmp_path / "list.json")
    with pytest.raises(UserError, match=r"has no \.txt files"):
        read_ground_truth(write(tmp_path / "empty", {}))
    with pytest.raises(UserError, match=r"a\.txt line 2 is 'cat 1 2 3', must be `name x y w h`"):
        read_ground_truth(write(tmp_path / "gt", {"a.txt": "cat 1 2 3 4\ncat 1 2 3"}))
    reference = read_ground_truth(write(tmp_path / "ok", {"image_a.txt": "cat 1 2 3 4"}))
    with pytest.raises(UserError, match=r"file image_b is not in the ground truth; did you mean 'image_a'"):
        read_predictions(write(tmp_path / "found", {"image_b.txt": "cat .5 1 2 3 4"}), reference)


def test_empty_files(tmp_path):
    truth = coco_file(tmp_path / "gt.json", annotations=[])
    (tmp_path / "found.json").write_text("[]")
    assert evaluate_files(tmp_path / "found.json", truth)["coco"]["AP"] is None


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("xywh", [8, 6, 20, 12]),
        ("xyxy", [8, 6, 28, 18]),
        ("cxcywh", [18, 12, 20, 12]),
        ("yolo", [0.225, 0.2, 0.25, 0.2]),
    ],
)
def test_forms_of_one_box(form, written):
    boxes = WrittenBoxes(numbers=np.array([written], float), sizes=np.array([[80.0, 60.0]]), name=str)
    assert to_xyxy(boxes, Form.of(form, inclusive=False))[0] == pytest.approx([8, 6, 28, 18])


def numbers(rows, size=(np.nan, np.nan)):
    return WrittenBoxes(numbers=np.array(rows, float), sizes=np.tile(size, (len(rows), 1)), name="box {}".format)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (numbers([[9, 9, 2, 2], [9, 9, -1, 2]]), r"box 1 has the box .* negative"),
        (numbers([[0.5, 0.5, 0.2, 0.3]]), r"box 0 .* add boxes=yolo"),
        (numbers([[0.6, 0.6, 0.9, 0.8]] * 2), r"box 0 .* look like corners"),
        (numbers([[50, 40, 70, 55], [20, 30, 75, 50]], (80, 60)), r"box 0 .* add boxes=xyxy"),
        (numbers([[500, 400, 540, 440], [300, 620, 375, 655], [10, 9, 30, 12]]), r"as in corners"),
    ],
)
def test_numbers_that_are_not_believed(boxes, message):
    with pytest.raises(UserError, match=message):
        to_xyxy(boxes, Form())


@pytest.mark.parametrize(
    "boxes",
    [
        numbers([[0, 0, 1, 1]]),  # one pixel
        numbers([[60, 40, 19.5, 19], [0, 0, 80, 60]], (80, 60)),
        numbers([[70, 50, 20, 20], [5, 5, 20, 20], [9, 9, 9, 9]], (80, 60)),  # one of three reaches out
        numbers([[10, 12, 300, 280], [40, 30, 250, 290], [22, 50, 270, 200], [5, 9, 310, 300]]),  # large, centred
        numbers([[500, 400, 540, 440], [300, 620, 75, 35], [10, 9, 30, 12]]),
    ],
)
def test_numbers_that_are_believed(boxes):
    assert np.array_equal(to_xyxy(boxes, Form()), from_corner(boxes.numbers))


def from_corner(xywh):
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def test_a_form_that_the_user_says_is_not_doubted_on_suspicion():
    boxes = numbers([[500, 400, 540, 440], [300, 620, 375, 655], [10, 9, 30, 12]])
    assert len(to_xyxy(boxes, Form.of("xywh", inclusive=False))) == 3


def test_poor_predictions_are_no_other_form():
    rng = np.random.default_rng(0)
    xywh = np.concatenate([rng.uniform(0, 300, (60, 2)), rng.uniform(20, 200, (60, 2))], axis=1)
    image, labels = np.arange(60) // 3, np.zeros(60, int)
    truth = GroundTruth(image=image, boxes=from_corner(xywh), labels=labels, num_images=20)
    for noise in (5, 30, 100):
        written = np.maximum(xywh + rng.normal(0, noise, xywh.shape), 1)
        found = Predictions(image=image, boxes=from_corner(written), scores=np.ones(60), labels=labels)
        assert better_form(numbers(written), Form(), found, truth) is None
    centred = xywh + np.concatenate([xywh[:, 2:] / 2, np.zeros((60, 2))], axis=1)
    found = Predictions(image=image, boxes=from_corner(centred), scores=np.ones(60), labels=labels)
    assert "as cxcywh (mean IoU 1.00)" in better_form(numbers(centred), Form(), found, truth)


def test_images_are_found_by_their_whole_name_first():
    names = ImageNames(["a/1.jpg", "b/1.jpg", "b/1.png", "c/2.jpg", "v1.2"])
    found = [names.find(name, Path("det")) for name in ("a/1.jpg", "b/1.png", "a/1", "2", "c/2.jpg", "x/2.png", "v1.2")]
    assert found == [0, 2, 0, 3, 3, 3, 4]
    for name in ("1", "b/1"):
        with pytest.raises(UserError, match="could be any of"):
            names.find(name, Path("det"))
    with pytest.raises(UserError, match=r"file 3 is not in the ground truth"):
        names.find("3", Path("det"))


def test_two_files_of_one_image_are_refused(tmp_path):
    reference = read_ground_truth(coco_file(tmp_path / "gt.json"))
    folder = write(tmp_path / "found", {"b.txt": "dog .5 1 2 10 20", "b.jpg.txt": "dog .5 1 2 10 20"})
    with pytest.raises(UserError, match="are of one image"):
        read_predictions(folder, reference)


def entry(**changes):
    return {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 10, 20], "area": 150, "iscrowd": 0} | changes


def without(row, *keys):
    return {key: value for key, value in row.items() if key not in keys}


@pytest.mark.parametrize(
    "rows",
    [
        [entry(area=None, iscrowd="0")],
        [entry(area="200", iscrowd=None, image_id="7", category_id=90.0)],
        [without(entry(), "area", "iscrowd", "id")],
        [entry(bbox=["1", 2, "10", 20], area=200)],
        [entry(bbox=None, area=None, segmentation=[[1, 2, 11, 2, 11, 22]])],
    ],
)
def test_what_other_tools_write_is_read_as_by_a_training(tmp_path, rows):
    truth = read_ground_truth(coco_file(tmp_path / "gt.json", annotations=rows)).ground_truth
    assert truth.boxes.tolist() == [[1, 2, 11, 22]] and truth.area.tolist() == [200]
    assert (truth.image.tolist(), truth.labels.tolist(), truth.crowd.tolist()) == ([1], [1], [False])


def test_no_annotations_are_none(tmp_path):
    assert len(read_ground_truth(coco_file(tmp_path / "gt.json", annotations=None)).ground_truth) == 0


@pytest.mark.parametrize("form", ["xyxy", "cxcywh", "yolo"])
def test_a_box_around_a_segmentation_is_one_in_every_form(tmp_path, form):
    written = {"xyxy": [8, 6, 28, 18], "cxcywh": [18, 12, 20, 12], "yolo": [0.225, 0.2, 0.25, 0.2]}[form]
    around = entry(bbox=None, area=None, segmentation=[[1, 2, 11, 2, 11, 22]])
    images = [{"id": 7, "file_name": "b.jpg", "width": 80, "height": 60}]
    path = coco_file(tmp_path / "gt.json", images=images, annotations=[entry(bbox=written, area=None), around])
    truth = read_ground_truth(path, boxes=form).ground_truth
    assert truth.boxes == pytest.approx(np.array([[8, 6, 28, 18], [1, 2, 11, 22]]))
    assert truth.area == pytest.approx([240, 200])


def test_what_is_odd_and_harmless_is_a_note(tmp_path):
    truth = coco_file(tmp_path / "gt.json", annotations=[entry(), entry(image_id=3)])
    (tmp_path / "found.json").write_text("[]")
    notes = evaluate_files(tmp_path / "found.json", truth)["protocol"]["notes"]
    assert notes[0] == f"{truth}: annotation id 1 is given to 2 entries; each counts as an object"


def test_detections_of_classes_that_are_not_measured_are_counted(tmp_path):
    truth = coco_file(tmp_path / "gt.json", annotations=[entry()])
    folder = write(
        tmp_path / "found", {"b.txt": "dog .5 1 2 10 20\nCat .4 1 2 3 4\nzebra .3 1 2 3 4\nzebra .2 5 6 7 8\n"}
    )
    content = {
        "images": [{"id": 0, "file_name": "b.jpg"}],
        "categories": [{"id": 4, "name": "Cat"}, {"id": 5, "name": "zebra"}, {"id": 6, "name": "dog"}],
        "annotations": [{"image_id": 0, "category_id": k, "bbox": [1, 2, 10, 20], "score": 0.5} for k in (4, 5, 5, 6)],
    }
    (tmp_path / "found.json").write_text(json.dumps(content))
    for path in (folder, tmp_path / "found.json"):
        metrics = evaluate_files(path, truth, inclusive=False)
        told = "3 of 4 detections are of classes that the ground truth does not have "
        told += "('zebra': 2, 'Cat': 1; did you mean cat?): they count for nothing"
        assert f"{path}: {told}" in metrics["protocol"]["notes"]
        assert metrics["voc"]["mAP_area"] == pytest.approx(1)
    content["categories"] = [{"id": k, "name": f"n{k}"} for k in (4, 5, 6)]
    (tmp_path / "found.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="has the classes n4, n5, n6, and none of those of the ground truth: cat, dog"):
        evaluate_files(tmp_path / "found.json", truth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": [{"id": 1, "file_name": "a"}, {"id": "1", "file_name": "b"}]},
            r"image 1 is listed twice, as a and as b$",
        ),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "categories 1 and 2 are both called 'a'$"),
        ({"categories": [{"name": "a"}]}, "entry 0 of categories has no id"),
        ({"annotations": {}}, "annotations is {}, not a list"),
        ({"images": [{"id": 1}]}, "entry 0 of images has no file_name"),
        ({"annotations": [entry(iscrowd=2)]}, r"entry 0 of annotations \(id 1\): iscrowd is 2$"),
        ({"annotations": [entry(area="big")]}, r"area is 'big'$"),
        ({"annotations": [entry(bbox=None), entry()]}, "bbox is null, and no segmentation to put a box around$"),
        ({"annotations": [entry(bbox=[9, 9, -5, 5])]}, "entry 0 has the box .*, whose width or height is negative"),
        ({"annotations": [entry(image_id=5)]}, "image_id 5 is not in the ground truth"),
    ],
)
def test_bad_ground_truth_is_named(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read_ground_truth(coco_file(tmp_path / "gt.json", **change))
