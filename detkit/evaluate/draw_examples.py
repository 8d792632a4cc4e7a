"""Draw detections and ground truth on a few images of a split."""

from __future__ import annotations

import numpy as np
from PIL import Image

from detkit.core.errors import UserError
from detkit.data.annotations import Annotations
from detkit.image.read import read_image
from detkit.task.base import AnyTask


def draw_examples(task: AnyTask, results: object, annotations: Annotations, count: int) -> list[Image.Image]:
    """`count` images, evenly spread over the split, with what was found and what there is; unreadable files left out.

    results: of the whole split, as the task's accumulator gives them.
    """
    pictures = []
    for index in spread(len(annotations), count):
        try:
            pixels = read_image(annotations.image_paths[index])
        except UserError:
            continue
        pictures.append(task.draw_example(pixels, results, annotations, index))
    return pictures


def spread(length: int, count: int) -> list[int]:
    """At most `count` indices below `length`, evenly spaced."""
    return sorted({int(index) for index in np.linspace(0, length - 1, min(count, length))}) if length else []
