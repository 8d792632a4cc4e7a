"""Re-express normalised boxes after cropping or padding an image."""

from __future__ import annotations

from typing import TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

Corner = tuple[float, float]  # x, y in pixels
Pixels: TypeAlias = NDArray[np.uint8]  # [H, W, 3] RGB
Shares: TypeAlias = NDArray[np.float32]  # boxes [N, 4 + columns] xyxy, as shares of the sides of their image


class ImageParams(TypedDict):
    """What Albumentations tells a transform that draws its parameters; shape: of the image, (h, w, channels)."""

    shape: tuple[int, ...]


class ImageData(TypedDict):
    """What a transform may ask for that draws by the objects."""

    bboxes: Shares


def moved(bboxes: Shares, shape: tuple[int, ...], offset: Corner, size: tuple[float, float]) -> Shares:
    """Boxes [N, 4 + columns], shares of an image of `shape` (h, w, ...), as shares of a frame.

    offset: where the image's corner lies in the frame, (x, y) pixels. size: of the frame, (h, w).
    """
    height, width = shape[:2]
    result = np.array(bboxes, copy=True)
    result[:, [0, 2]] = (bboxes[:, [0, 2]] * width + offset[0]) / size[1]
    result[:, [1, 3]] = (bboxes[:, [1, 3]] * height + offset[1]) / size[0]
    return result
