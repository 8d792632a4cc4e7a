"""Pictures of what a detector finds in a few images of a split, beside what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from detkit.data.annotations import Annotations
from detkit.data.image import read_image
from detkit.errors import UserError
from detkit.metric.records import Predictions
from detkit.types import Detections, Target

if TYPE_CHECKING:
    from PIL import Image

DRAWN_FROM = 0.3  # lower scores are mostly clutter in a picture


def draw_examples(predictions: Predictions, annotations: Annotations, count: int) -> list[Image.Image]:
    """`count` images, evenly spread over the split, with detections and ground truth; unreadable files are left out."""
    from detkit.visualize.draw import draw_detections

    pictures = []
    for image in spread(len(annotations), count):
        try:
            pixels = read_image(annotations.image_paths[image])
        except UserError:
            continue
        found = detections_of(predictions, image, annotations.classes)
        pictures.append(
            draw_detections(pixels, found, target=target_of(annotations, image), score_threshold=DRAWN_FROM)
        )
    return pictures


def spread(length: int, count: int) -> list[int]:
    """At most `count` indices below `length`, evenly spaced."""
    return sorted({int(index) for index in np.linspace(0, length - 1, min(count, length))}) if length else []


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
