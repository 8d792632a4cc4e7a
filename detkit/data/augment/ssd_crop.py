"""SSD's zoom-out and IoU-constrained random crop (Liu et al. 2016, section 3.6).

`augment=ssd` has `ZoomCrop`, which is the two others and a resize in one; they are for lists of one's own, and for runs
from before there was that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from albumentations import DualTransform
from numpy.typing import NDArray

from detkit.data.augment.crop_boxes import ImageData, ImageParams, Pixels, Shares, moved

Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels
FILTERS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


class ZoomOut(DualTransform):
    """The image at a random place of a canvas up to `max_ratio` times as wide and as high, which is `fill` (RGB)."""

    def __init__(self, max_ratio: float = 4.0, fill: Sequence[int] = (123, 117, 104), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.max_ratio = max_ratio
        self.fill = fill

    def get_params_dependent_on_data(self, params: ImageParams, data: ImageData) -> dict[str, object]:
        height, width = params["shape"][:2]
        ratio = self.py_random.uniform(1, self.max_ratio)
        canvas = (int(height * ratio), int(width * ratio))
        return {
            "canvas": canvas,
            "top": self.py_random.randint(0, canvas[0] - height),
            "left": self.py_random.randint(0, canvas[1] - width),
        }

    def apply(self, img: Pixels, canvas: tuple[int, int], top: int, left: int, **_: object) -> Pixels:
        """uint8 [H, W, 3] to the canvas [h, w, 3]."""
        bottom, right = canvas[0] - top - img.shape[0], canvas[1] - left - img.shape[1]
        whole = cv2.copyMakeBorder(img, top, bottom, left, right, cv2.BORDER_CONSTANT, value=list(self.fill))
        return np.asarray(whole, np.uint8)

    def apply_to_bboxes(
        self, bboxes: Shares, canvas: tuple[int, int], top: int, left: int, shape: tuple[int, ...], **_: object
    ) -> Shares:
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

    def get_params_dependent_on_data(self, params: ImageParams, data: ImageData) -> dict[str, object]:
        height, width = params["shape"][:2]
        boxes = np.asarray(data["bboxes"])[:, :4] * [width, height, width, height]
        return {"window": self.window(boxes, height, width)}

    def window(self, boxes: NDArray[np.floating], height: int, width: int) -> Window:
        """A part of an image of that size, whose objects have the boxes [N, 4] xyxy in pixels."""
        choices: list[float | None] = [None, *self.min_ious]
        self.py_random.shuffle(choices)
        for min_iou in choices:
            if min_iou is None:
                break
            for _ in range(self.trials):
                window = self._draw(height, width)
                if fits(boxes, window, min_iou):
                    return window
        return 0, 0, width, height

    def _draw(self, height: int, width: int) -> Window:
        scale = self.py_random.uniform(*self.scale)
        # of these shapes no side is longer than the image's
        ratio = self.py_random.uniform(max(self.ratio[0], scale**2), min(self.ratio[1], 1 / scale**2))
        w = max(1, round(width * scale * math.sqrt(ratio)))
        h = max(1, round(height * scale / math.sqrt(ratio)))
        x, y = self.py_random.randint(0, width - w), self.py_random.randint(0, height - h)
        return x, y, x + w, y + h

    def apply(self, img: Pixels, window: Window, **_: Any) -> Pixels:
        """uint8 [H, W, 3] to the part in the window."""
        x1, y1, x2, y2 = window
        return img[y1:y2, x1:x2]

    def apply_to_bboxes(self, bboxes: Shares, window: Window, shape: tuple[int, ...], **_: object) -> Shares:
        """Boxes as shares of the image to shares of the window, without those whose centre is outside."""
        x1, y1, x2, y2 = window
        height, width = shape[:2]
        inside = centres_inside(bboxes[:, :4] * [width, height, width, height], window)
        cut = moved(bboxes[inside], shape, (-x1, -y1), (y2 - y1, x2 - x1))
        cut[:, :4] = cut[:, :4].clip(0, 1)
        return cut


class ZoomCrop(IoUCrop):
    """`ZoomOut`, `IoUCrop` and a resize by one of OpenCV's filters, drawn at random, without the canvas in between.

    What a window shows of the image is resized into its place on the result, whole pixels of it, and nothing of the
    canvas, which may have sixteen times the pixels of the image, is ever drawn.

    height, width: of the result. zoom: how often the image lies on a larger canvas. max_ratio, fill: of `ZoomOut`.
    settings: of `IoUCrop`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        zoom: float = 0.5,
        max_ratio: float = 4.0,
        fill: Sequence[int] = (123, 117, 104),
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.height, self.width = height, width
        self.zoom, self.max_ratio, self.fill = zoom, max_ratio, fill

    def get_params_dependent_on_data(self, params: ImageParams, data: ImageData) -> dict[str, object]:
        height, width = params["shape"][:2]
        factor = self.py_random.uniform(1, self.max_ratio) if self.py_random.random() < self.zoom else 1
        canvas = int(height * factor), int(width * factor)
        top, left = (
            self.py_random.randint(0, large - side) for large, side in zip(canvas, (height, width), strict=True)
        )
        boxes = np.asarray(data["bboxes"])[:, :4] * [width, height, width, height] + [left, top, left, top]
        x1, y1, x2, y2 = self.window(boxes, *canvas)
        window = x1 - left, y1 - top, x2 - left, y2 - top
        return {"window": window, "interpolation": self.py_random.choice(FILTERS)}

    def apply(self, img: Pixels, window: Window, interpolation: int = cv2.INTER_LINEAR, **_: object) -> Pixels:
        """uint8 [H, W, 3] to the result [height, width, 3]; window: in pixels of the image, and beyond it."""
        (x1, x2), (left, right) = _seen(window[0], window[2], img.shape[1], self.width)
        (y1, y2), (top, bottom) = _seen(window[1], window[3], img.shape[0], self.height)
        result = np.full((self.height, self.width, img.shape[2]), self.fill, img.dtype)
        if right > left and bottom > top:
            size = right - left, bottom - top
            result[top:bottom, left:right] = cv2.resize(img[y1:y2, x1:x2], size, interpolation=interpolation)
        return result

    def apply_to_bboxes(self, bboxes: Shares, window: Window, shape: tuple[int, ...], **_: object) -> Shares:
        """Boxes as shares of the image to shares of the result, without those whose centre is outside."""
        height, width = shape[:2]
        moved_boxes = bboxes[centres_inside(bboxes[:, :4] * [width, height, width, height], window)].copy()
        for axis, (side, size) in enumerate(((width, self.width), (height, self.height))):
            (low, high), (first, last) = _seen(window[axis], window[axis + 2], side, size)
            edges = moved_boxes[:, [axis, axis + 2]] * side
            places = first + (edges - low) * (last - first) / max(high - low, 1)
            moved_boxes[:, [axis, axis + 2]] = (places / size).clip(0, 1)
        return moved_boxes


def _seen(start: int, end: int, side: int, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a window from `start` to `end` shows of an image `side` pixels wide, and its place on a result of `size`.

    Both from one pixel to another; the place has at least one pixel where there is anything to be seen.
    """
    low, high = max(start, 0), min(end, side)
    if low >= high:
        return (0, 0), (0, 0)
    first, last = (round((edge - start) * size / (end - start)) for edge in (low, high))
    first = min(first, size - 1)
    return (low, high), (first, max(last, first + 1))


def fits(boxes: NDArray[np.floating], window: Window, min_iou: float) -> bool:
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


def centres_inside(boxes: NDArray[np.floating], window: Window) -> NDArray[np.bool_]:
    """Which boxes [N, 4], in pixels, have their centre in the window: bool [N]."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.asarray(((centres > window[:2]) & (centres < window[2:])).all(axis=1), np.bool_)
