"""Draw the detections of an image of a split beside its ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from detkit.core.structures import Detections, Target
from detkit.data.annotations import Annotations
from detkit.metric.records import Predictions
from detkit.view.draw import draw_detections

DRAWN_FROM = 0.3  # lower scores are mostly clutter in a picture


def draw_example(
    image: NDArray[np.uint8], predictions: Predictions, annotations: Annotations, index: int
) -> Image.Image:
    """The image at `index` of a split, uint8 [H, W, 3] RGB, with its detections and the ground truth."""
    found = detections_of(predictions, index, annotations.classes)
    return draw_detections(image, found, target=target_of(annotations, index), score_threshold=DRAWN_FROM)


def detections_of(predictions: Predictions, image: int, classes: Sequence[str]) -> Detections:
    """The detections of one image, best first."""
    rows = np.flatnonzero(predictions.image == image)
    rows = rows[np.argsort(-predictions.scores[rows], kind="stable")]
    return Detections(
        torch.from_numpy(predictions.boxes[rows]).float(),
        torch.from_numpy(predictions.scores[rows]).float(),
        torch.from_numpy(predictions.labels[rows]),
        classes,
    )


def target_of(annotations: Annotations, image: int) -> Target:
    """The objects of one image as annotated, in the pixels of its file."""
    boxes, labels, difficult = (torch.from_numpy(np.array(column)) for column in annotations.objects(image))
    return Target(boxes=boxes, labels=labels, difficult=difficult, image_id=annotations.image_ids[image])
