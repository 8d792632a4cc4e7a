"""Random records full of what trips evaluators: tied scores, equal overlaps, crowds, empty images and classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from detkit.metric.records import GroundTruth, Predictions

NUM_CLASSES = 5


def _make(seed: int, *, num_images: int = 8, crowd: bool = True, difficult: bool = True, max_dets: int = 25):
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for image in range(num_images):
        num_objects = 0 if rng.random() < 0.2 else int(rng.integers(1, 9))
        xy, wh = rng.integers(0, 60, (num_objects, 2)), rng.choice([6, 12, 24, 32, 96, 120], (num_objects, 2))
        boxes = np.concatenate([xy, xy + wh], axis=1).astype(np.float64)
        labels = rng.integers(0, NUM_CLASSES - 1, num_objects)  # the last class has no object
        flags = rng.random((num_objects, 2)) < 0.15
        truth += [(image, box, label, *flag) for box, label, flag in zip(boxes, labels, flags, strict=True)]
        num_found = 0 if rng.random() < 0.15 else int(rng.integers(1, max_dets))
        for _ in range(num_found):
            if num_objects and rng.random() < 0.7:
                pick = rng.integers(num_objects)
                box, label = boxes[pick] + rng.integers(-3, 4, 4), labels[pick]
                box[2:] = np.maximum(box[2:], box[:2] + 1)
                label = label if rng.random() < 0.8 else rng.integers(NUM_CLASSES)
            else:
                x, y, w, h = rng.integers(1, 90, 4)
                box, label = np.array([x, y, x + w, y + h], np.float64), rng.integers(NUM_CLASSES)
            score = rng.random() if rng.random() < 0.5 else rng.choice([0.25, 0.5, 0.75])
            found.append((image, box, label, score))
    columns = [np.array([row[k] for row in truth]) for k in range(5)]
    ground_truth = GroundTruth(
        image=columns[0],
        boxes=columns[1],
        labels=columns[2],
        num_images=num_images,
        difficult=columns[3] & difficult,
        crowd=columns[4] & crowd,
        area=np.prod(columns[1].reshape(-1, 4)[:, 2:] - columns[1].reshape(-1, 4)[:, :2], axis=1)
        * rng.choice([0.5, 0.8, 1.0], len(truth)),
    )
    image, boxes, labels, scores = (np.array([row[k] for row in found]) for k in range(4))
    return ground_truth, Predictions(image=image, boxes=boxes, labels=labels, scores=scores)


@pytest.fixture
def random_records() -> Callable[..., tuple[GroundTruth, Predictions]]:
    """random_records(seed, num_images=, crowd=, difficult=, max_dets=): ground truth and predictions, 5 classes."""
    return _make


@pytest.fixture
def num_classes() -> int:
    return NUM_CLASSES
