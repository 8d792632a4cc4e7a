"""The two augmentations of SSD that change what is where: smaller objects and larger ones (Liu et al. 2016, 3.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from albumentations import DualTransform
from numpy.typing import NDArray

from detkit.data.frame import moved

Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels


class ZoomOut(DualTransform):
    """The image at a random place of a canvas up to `max_ratio` times as wide and as high, which is `fill` (RGB)."""

    def __init__(self, max_ratio: float = 4.0, fill: Sequence[int] = (123, 117, 104), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.max_ratio = max_ratio
        self.fill = fill

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        ratio = self.py_random.uniform(1, self.max_ratio)
        canvas = (int(height * ratio), int(width * ratio))
        return {
            "canvas": canvas,
            "top": self.py_random.randint(0, canvas[0] - height),
            "left": self.py_random.randint(0, canvas[1] - width),
        }

    def apply(self, img: NDArray[Any], canvas: tuple[int, int], top: int, left: int, **_: Any) -> NDArray[Any]:
        """uint8 [H, W, 3] to the canvas [h, w, 3]."""
        large = np.empty((*canvas, img.shape[2]), img.dtype)
        large[:] = self.fill
        large[top : top + img.shape[0], left : left + img.shape[1]] = img
        return large

    def apply_to_bboxes(
        self, bboxes: NDArray[Any], canvas: tuple[int, int], top: int, left: int, shape: tuple[int, ...], **_: Any
    ) -> NDArray[Any]:
        """Boxes as shares of the image to shares of the canvas."""
        return moved(bboxes, shape, (left, top), canvas)


class IoUCrop(DualTransform):
    """The whole image, or a part of it that has at least some IoU with an object.

    min_ious: one is drawn for each image; 0 is any part. The whole image is one more choice, and what is left where
    `trials` parts in turn do not have it. scale: sides of a part as shares of the image, before its shape; ratio: of
    that shape, width / height relative to the image's.
    Objects stay whose centre lies in the part, cut to it. In an image with objects a part has at least one.
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9),
        scale: tuple[float, float] = (0.3, 1.0),
        ratio: tuple[float, float] = (0.5, 2.0),
        trials: int = 50,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.min_ious = min_ious
        self.scale = scale
        self.ratio = ratio
        self.trials = trials

    @property
    def targets_as_params(self) -> list[str]:
        return ["bboxes"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        boxes = np.asarray(data["bboxes"])[:, :4] * [width, height, width, height]
        choices: list[float | None] = [None, *self.min_ious]
        self.py_random.shuffle(choices)
        for min_iou in choices:
            if min_iou is None:
                break
            for _ in range(self.trials):
                window = self._draw(height, width)
                if fits(boxes, window, min_iou):
                    return {"window": window}
        return {"window": (0, 0, width, height)}

    def _draw(self, height: int, width: int) -> Window:
        scale = self.py_random.uniform(*self.scale)
        # of these shapes no side is longer than the image's
        ratio = self.py_random.uniform(max(self.ratio[0], scale**2), min(self.ratio[1], 1 / scale**2))
        w = max(1, round(width * scale * math.sqrt(ratio)))
        h = max(1, round(height * scale / math.sqrt(ratio)))
        x, y = self.py_random.randint(0, width - w), self.py_random.randint(0, height - h)
        return x, y, x + w, y + h

    def apply(self, img: NDArray[Any], window: Window, **_: Any) -> NDArray[Any]:
        """uint8 [H, W, 3] to the part in the window."""
        x1, y1, x2, y2 = window
        return img[y1:y2, x1:x2]

    def apply_to_bboxes(self, bboxes: NDArray[Any], window: Window, shape: tuple[int, ...], **_: Any) -> NDArray[Any]:
        """Boxes as shares of the image to shares of the window, without those whose centre is outside."""
        x1, y1, x2, y2 = window
        height, width = shape[:2]
        inside = centres_inside(bboxes[:, :4] * [width, height, width, height], window)
        cut = moved(bboxes[inside], shape, (-x1, -y1), (y2 - y1, x2 - x1))
        cut[:, :4] = cut[:, :4].clip(0, 1)
        return cut


def fits(boxes: NDArray[Any], window: Window, min_iou: float) -> bool:
    """Whether a window keeps an object, and one has at least `min_iou` with it; an image without any takes all.

    boxes: float [N, 4] xyxy in pixels.
    """
    if len(boxes) == 0:
        return True
    x1, y1, x2, y2 = window
    sides = np.minimum(boxes[:, 2:], [x2, y2]) - np.maximum(boxes[:, :2], [x1, y1])
    shared = sides.clip(min=0).prod(axis=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (x2 - x1) * (y2 - y1) - shared
    return bool(centres_inside(boxes, window).any() and (shared / union).max() >= min_iou)


def centres_inside(boxes: NDArray[Any], window: Window) -> NDArray[np.bool_]:
    """Which boxes [N, 4], in pixels, have their centre in the window: bool [N]."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > window[:2]) & (centres < window[2:])).all(axis=1)
