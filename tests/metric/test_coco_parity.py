"""Our COCO numbers are those of pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detkit.box_files.files import evaluate_files, read_ground_truth, read_predictions
from detkit.metric.evaluate import evaluate
from detkit.metric.records import GroundTruth, Predictions

# the order of COCOeval.stats
NAMES = ["AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR_1", "AR_10", "AR_100", "AR_S", "AR_M", "AR_L"]


class WithDifficult(COCOeval):
    """COCOeval throws away the `ignore` flag that its matcher understands; this one keeps it."""

    def _prepare(self) -> None:
        super()._prepare()
        for objects in self._gts.values():
            for item in objects:
                item["ignore"] = item["difficult"]


def reference(ground_truth: GroundTruth, predictions: Predictions, num_classes: int) -> COCOeval:
    boxes = np.concatenate([ground_truth.boxes[:, :2], ground_truth.boxes[:, 2:] - ground_truth.boxes[:, :2]], axis=1)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": index} for index in range(ground_truth.num_images)],
        "categories": [{"id": label, "name": str(label)} for label in range(num_classes)],
        "annotations": [
            {
                "id": index + 1,
                "image_id": int(ground_truth.image[index]),
                "category_id": int(ground_truth.labels[index]),
                "bbox": boxes[index].tolist(),
                "area": float(ground_truth.area[index]),
                "iscrowd": int(ground_truth.crowd[index]),
                "difficult": int(ground_truth.difficult[index]),
            }
            for index in range(len(ground_truth))
        ],
    }
    found = np.concatenate(
        [
            predictions.image[:, None],
            predictions.boxes[:, :2],
            predictions.boxes[:, 2:] - predictions.boxes[:, :2],
            predictions.scores[:, None],
            predictions.labels[:, None],
        ],
        axis=1,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        run = WithDifficult(truth, truth.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def assert_equal(ground_truth: GroundTruth, predictions: Predictions, num_classes: int) -> None:
    expected = reference(ground_truth, predictions, num_classes)
    coco = evaluate(predictions, ground_truth, [str(label) for label in range(num_classes)])["coco"]
    ours = [-1.0 if coco[name] is None else coco[name] for name in NAMES]
    np.testing.assert_allclose(ours, expected.stats, rtol=0, atol=1e-9)
    precision = expected.eval["precision"][..., 0, 2]  # [T, 101, C], all areas, 100 detections
    for label in range(num_classes):
        row = precision[..., label]
        assert coco["per_class"][str(label)]["AP"] == (None if row.max() < 0 else pytest.approx(row.mean(), abs=1e-9))


@pytest.mark.parametrize("seed", range(40))
def test_random_sets(random_records, num_classes, seed):
    assert_equal(*random_records(seed, difficult=seed % 2 == 0, crowd=seed % 3 != 0), num_classes)


def test_more_than_100_detections_of_a_class_in_an_image(random_records, num_classes):
    ground_truth, predictions = random_records(7, num_images=2, max_dets=900)
    ground_truth, predictions = ground_truth, Predictions.concatenate([predictions] * 2)
    assert np.bincount(predictions.image * num_classes + predictions.labels).max() > 100
    assert_equal(ground_truth, predictions, num_classes)


def test_boxes_with_fractions(num_classes):
    rng = np.random.default_rng(0)
    xy, wh = rng.uniform(0, 200, (300, 2)), rng.uniform(5, 150, (300, 2))
    boxes = np.concatenate([xy, xy + wh], axis=1)
    image, labels = rng.integers(0, 20, 300), rng.integers(0, num_classes, 300)
    jittered = np.repeat(boxes, 3, axis=0) + rng.normal(0, 6, (900, 4))
    jittered[:, 2:] = np.maximum(jittered[:, 2:], jittered[:, :2] + 0.5)
    ground_truth = GroundTruth(image=image, boxes=boxes, labels=labels, num_images=20)
    predictions = Predictions(
        image=np.repeat(image, 3), boxes=jittered, labels=np.repeat(labels, 3), scores=rng.random(900)
    )
    assert_equal(ground_truth, predictions, num_classes)


@pytest.mark.real_data
def test_published_coco_numbers(shared_data: Path):
    fixture = shared_data / "fixtures" / "review_test_coco_eval"
    metrics = evaluate_files(
        fixture / "dets" / "sampled_bbox_results.json", fixture / "gts" / "sampled_gts_bbox_area.json"
    )
    published = [0.503647, 0.696973, 0.571667, 0.593252, 0.557991, 0.489363]
    published += [0.386813, 0.593680, 0.595353, 0.654764, 0.603130, 0.553744]
    assert [round(metrics["coco"][name], 6) for name in NAMES] == published
    json.dumps(metrics, allow_nan=False)


@pytest.mark.real_data
def test_detections_of_real_images(shared_data: Path):
    folder = shared_data / "voc2012_100"
    truth = read_ground_truth(folder / "gts" / "coco_format_v2" / "instances_v2.json")
    predictions, classes = read_predictions(folder / "detections" / "coco_format" / "coco_dets.json", truth)
    assert_equal(truth.ground_truth, predictions, len(classes))
