"""Combine four images to a mosaic (Bochkovskiy et al. 2020) and blend in a fifth (mixup).

As YOLOX trains (Ge et al. 2021, section 2.1): strong, and so far from a real picture that the last part of a training
goes without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.core.errors import UserError

Columns = dict[str, NDArray[Any]]  # "boxes" float32 [N, 4] xyxy pixels, every other entry a column [N]
Picture = tuple[NDArray[np.uint8], Columns]
FILL = 114


class Mosaic:
    """A square of four pictures that meet in a random point of its middle, and sometimes a fifth over all of them.

    size: side of the square in pixels. scale: bounds of a picture's long side, as a share of `size`. mixup: how often
    the fifth is blended in, both at half strength, with the objects of both. until: the share of the budget after which
    pictures come alone. min_visibility, min_size: a box that keeps less of its area, or a side of fewer pixels, is
    dropped.

    The result is a pure function of the pictures and the seed.
    """

    def __init__(
        self,
        *,
        size: int,
        scale: tuple[float, float] = (0.5, 1.2),
        mixup: float = 0.5,
        until: float = 0.85,
        min_visibility: float = 0.25,
        min_size: float = 2.0,
    ) -> None:
        if size < 32 or not 0 < scale[0] <= scale[1]:
            raise UserError(
                f"multi_image.size={size} multi_image.scale={list(scale)}: a side of at least 32, and a range above 0"
            )
        if not (0 <= mixup <= 1 and 0 <= until <= 1):
            raise UserError(f"multi_image.mixup={mixup} multi_image.until={until}: both are shares, from 0 to 1")
        self.size, self.mixup, self.until = size, mixup, until
        self.smallest, self.largest = scale
        self.min_visibility, self.min_size = min_visibility, min_size

    def __call__(self, picture: Picture, draw: Callable[[int], Picture], count: int, seed: int) -> Picture:
        """`picture` among others: uint8 [size, size, 3] and its objects.

        draw: gives the picture at an index below `count`.
        """
        rng = np.random.default_rng(seed)
        pictures = [picture, *(draw(int(index)) for index in rng.integers(count, size=3))]
        centre = rng.uniform(0.3, 0.7, 2) * self.size
        x, y = int(centre[0]), int(centre[1])
        canvas = np.full((self.size, self.size, 3), FILL, np.uint8)
        parts = []
        for place, (image, columns) in zip(rng.permutation(4), pictures, strict=True):
            right, below = place % 2 == 1, place >= 2
            region = (x if right else 0, y if below else 0, self.size if right else x, self.size if below else y)
            image, columns = self._scaled(image, columns, rng)
            corner = (x if right else x - image.shape[1], y if below else y - image.shape[0])
            _paste(canvas, image, corner, region)
            parts.append(self._moved(columns, corner, region))
        if rng.random() < self.mixup:
            image, columns = self._scaled(*draw(int(rng.integers(count))), rng)
            corner = (
                int(rng.random() * (self.size - image.shape[1])),
                int(rng.random() * (self.size - image.shape[0])),
            )
            whole = (0, 0, self.size, self.size)
            over = np.full_like(canvas, FILL)
            _paste(over, image, corner, whole)
            canvas = ((canvas.astype(np.uint16) + over) // 2).astype(np.uint8)
            parts.append(self._moved(columns, corner, whole))
        return canvas, {key: np.concatenate([part[key] for part in parts]) for key in picture[1]}

    def _scaled(self, image: NDArray[np.uint8], columns: Columns, rng: np.random.Generator) -> Picture:
        """A picture at a random scale, one time in two mirrored."""
        height, width = image.shape[:2]
        factor = rng.uniform(self.smallest, self.largest) * self.size / max(height, width)
        new = max(1, round(width * factor)), max(1, round(height * factor))
        small = np.asarray(cv2.resize(image, new, interpolation=cv2.INTER_LINEAR), np.uint8)
        ratio = np.array([new[0] / width, new[1] / height] * 2, np.float32)
        boxes = columns["boxes"] * ratio
        if rng.random() < 0.5:
            small = small[:, ::-1]
            boxes = np.stack([new[0] - boxes[:, 2], boxes[:, 1], new[0] - boxes[:, 0], boxes[:, 3]], axis=1)
        return small, {**columns, "boxes": boxes}

    def _moved(self, columns: Columns, corner: tuple[int, int], region: tuple[int, int, int, int]) -> Columns:
        """The objects of a picture whose top left is at `corner`, as far as they are visible in `region` (xyxy)."""
        boxes = columns["boxes"] + np.array(corner * 2, np.float32)
        low, high = np.array(region[:2] * 2, np.float32), np.array(region[2:] * 2, np.float32)
        cut = boxes.clip(low, high)
        sides, whole = cut[:, 2:] - cut[:, :2], (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        keep = (sides >= self.min_size).all(axis=1) & (sides.prod(axis=1) >= self.min_visibility * whole)
        return {key: (cut if key == "boxes" else column)[keep] for key, column in columns.items()}


def _paste(
    canvas: NDArray[np.uint8],
    image: NDArray[np.uint8],
    corner: tuple[int, int],
    region: tuple[int, int, int, int],
) -> None:
    """Copy the part of an image, its top left at `corner` (x, y), that falls into `region` (xyxy): in place."""
    left, top = max(corner[0], region[0]), max(corner[1], region[1])
    right, bottom = min(corner[0] + image.shape[1], region[2]), min(corner[1] + image.shape[0], region[3])
    if right > left and bottom > top:
        source = image[top - corner[1] : bottom - corner[1], left - corner[0] : right - corner[0]]
        canvas[top:bottom, left:right] = source
