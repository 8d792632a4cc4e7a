"""Distort the aspect ratio and paste the image at a random position, as Darknet's `jitter` does."""

from __future__ import annotations

import cv2
import numpy as np
from albumentations import DualTransform

from detkit.core.errors import UserError
from detkit.data.augment.crop_boxes import ImageData, ImageParams, Pixels, Shares, moved


class SideJitter(DualTransform):
    """Each of the four sides by its own, inwards or outwards, by up to `jitter` of the image's width or height.

    Beyond the image its last pixels go on. Objects are cut to the frame.
    """

    def __init__(self, jitter: float = 0.3, p: float = 1.0) -> None:
        super().__init__(p=p)
        _check(jitter)
        self.jitter = jitter

    def get_params_dependent_on_data(self, params: ImageParams, data: ImageData) -> dict[str, object]:
        height, width = params["shape"][:2]

        def by(length: int) -> int:
            return int(self.py_random.uniform(-1, 1) * self.jitter * length)

        x1, x2, y1, y2 = by(width), width - by(width), by(height), height - by(height)
        return {"window": (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))}

    def apply(self, img: Pixels, window: tuple[int, int, int, int], **_: object) -> Pixels:
        """uint8 [H, W, 3] to the window, [h, w, 3]."""
        x1, y1, x2, y2 = window
        rows = np.arange(y1, y2).clip(0, img.shape[0] - 1)
        columns = np.arange(x1, x2).clip(0, img.shape[1] - 1)
        return img[rows][:, columns]

    def apply_to_bboxes(
        self, bboxes: Shares, window: tuple[int, int, int, int], shape: tuple[int, ...], **_: object
    ) -> Shares:
        """Boxes as shares of the image to shares of the window; parts outside are for the caller to cut."""
        x1, y1, x2, y2 = window
        return moved(bboxes, shape, (-x1, -y1), (y2 - y1, x2 - x1))


class AspectJitter(DualTransform):
    """Another shape, whole, at a random place of a square of the image's long side, which is `fill`.

    jitter: the image's sides, by each of which its width / height is stretched, vary by so much of their length.
    """

    def __init__(self, jitter: float = 0.3, fill: int = 127, p: float = 1.0) -> None:
        super().__init__(p=p)
        _check(jitter)
        self.jitter = jitter
        self.fill = fill

    def get_params_dependent_on_data(self, params: ImageParams, data: ImageData) -> dict[str, object]:
        height, width = params["shape"][:2]
        ratio = width * self._factor() / (height * self._factor())
        side = max(height, width)
        w, h = (max(1, round(side * min(1.0, share))) for share in (ratio, 1 / ratio))
        return {"size": (h, w), "corner": (self.py_random.randint(0, side - w), self.py_random.randint(0, side - h))}

    def _factor(self) -> float:
        return 1 + self.py_random.uniform(-self.jitter, self.jitter)

    def apply(self, img: Pixels, size: tuple[int, int], corner: tuple[int, int], **_: object) -> Pixels:
        """uint8 [H, W, 3] to the square [S, S, 3]."""
        (h, w), (x, y), side = size, corner, max(img.shape[:2])
        square = np.full((side, side, img.shape[2]), self.fill, img.dtype)
        square[y : y + h, x : x + w] = cv2.resize(img, (w, h), interpolation=cv2.INTER_LINEAR)
        return square

    def apply_to_bboxes(
        self, bboxes: Shares, size: tuple[int, int], corner: tuple[int, int], shape: tuple[int, ...], **_: object
    ) -> Shares:
        """Boxes as shares of the image to shares of the square."""
        side = max(shape[:2])
        return moved(bboxes, size, corner, (side, side))


def _check(jitter: float) -> None:
    if not 0 <= jitter < 0.5:
        raise UserError(f"jitter={jitter}: from 0 to less than 0.5, a share of the image's sides")
