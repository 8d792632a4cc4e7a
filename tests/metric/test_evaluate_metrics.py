from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from detkit.core.structures import Detections
from detkit.metric.evaluate import evaluate
from detkit.metric.records import GroundTruth, Predictions

CLASSES = [str(label) for label in range(5)]


def test_a_perfect_detector(random_records):
    """Its detections of difficult objects are ignored, so it scores 1 on everything."""
    ground_truth, _ = random_records(1, crowd=False)
    _, keep = np.unique(
        np.column_stack([ground_truth.image, ground_truth.labels, ground_truth.boxes]), axis=0, return_index=True
    )
    assert len(keep) == len(ground_truth)  # VOC gives one object to each box
    perfect = Predictions(
        image=ground_truth.image,
        boxes=ground_truth.boxes,
        labels=ground_truth.labels,
        scores=np.linspace(0.99, 0.6, len(ground_truth)),
    )
    metrics = evaluate(perfect, ground_truth, CLASSES)
    numbers = [metrics["voc"][key] for key in ("mAP_11pt", "mAP_area")]
    numbers += [metrics["coco"][key] for key in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR_100")]
    assert numbers == pytest.approx([1.0] * len(numbers))
    counts = np.array(metrics["confusion"]["counts"])
    assert (counts == np.diag(np.diag(counts))).all()


def test_order_of_the_columns_does_not_matter(random_records):
    """Ties go by image and by place within the image, so shards of images may come in any order."""
    ground_truth, predictions = random_records(5)
    parts = [predictions.select(predictions.image % 3 == rank) for rank in (2, 0, 1)]
    assert evaluate(Predictions.concatenate(parts), ground_truth, CLASSES) == evaluate(
        predictions, ground_truth, CLASSES
    )


@pytest.mark.parametrize("num_images", [0, 2])
def test_empty(num_images):
    nothing = GroundTruth(image=[], boxes=[], labels=[], num_images=num_images)
    metrics = evaluate(Predictions.from_detections([]), nothing, ["cat"])
    assert metrics["voc"]["mAP_area"] is None and metrics["coco"]["AP"] is None
    assert metrics["voc"]["per_class"]["cat"]["best_threshold"] is None
    assert metrics["confusion"]["counts"] == [[0, 0], [0, 0]]
    json.dumps(metrics, allow_nan=False)


def test_objects_but_no_detections():
    one = GroundTruth(image=[0], boxes=[[0, 0, 5, 5]], labels=[1], num_images=1)
    metrics = evaluate(Predictions.from_detections([]), one, ["cat", "dog"])
    assert metrics["voc"]["mAP_area"] == 0 and metrics["coco"]["AP"] == 0 and metrics["coco"]["AP_L"] is None
    assert metrics["voc"]["per_class"]["cat"]["ap_area"] is None
    assert metrics["confusion"]["counts"][1] == [0, 0, 1]


def test_iou_thresholds_are_listed_by_name(random_records):
    ground_truth, predictions = random_records(2)
    voc = evaluate(predictions, ground_truth, CLASSES, voc_iou_thresholds=(0.3, 0.75))["voc"]
    assert list(voc["by_iou"]) == ["0.30", "0.50", "0.75"]
    assert voc["by_iou"]["0.50"]["mAP_area"] == voc["mAP_area"]
    assert voc["by_iou"]["0.30"]["mAP_area"] > voc["by_iou"]["0.75"]["mAP_area"]


def test_predictions_from_detections():
    def found(*scores):
        count = len(scores)
        return Detections(torch.ones(count, 4), torch.tensor(scores), torch.arange(count))

    predictions = Predictions.from_detections([found(0.5, 0.25), found(), found(0.75)], images=[4, 0, 2])
    assert predictions.image.tolist() == [4, 4, 2]
    assert predictions.scores.tolist() == [0.5, 0.25, 0.75] and predictions.labels.tolist() == [0, 1, 0]
    assert predictions.boxes.shape == (3, 4) and predictions.boxes.dtype == np.float64
