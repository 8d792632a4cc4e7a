"""Convert images to the colour spaces of selective search (Uijlings et al. 2013, section 3.3)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

COLOUR_SPACES = ("rgb", "hsv", "lab", "rgi", "hue", "intensity")


def to_colour_space(image: NDArray[np.uint8], space: str) -> NDArray[np.uint8]:
    """uint8 [H, W, C], each channel over 0..255 but hue, of `image` uint8 [H, W, 3] RGB.

    Hue is in steps of 2 degrees, 0..179: where colours are pale it is mostly noise, and must not outweigh the rest.
    rgi: the shares of red and of green in the sum of the channels, and the intensity. hue, intensity: C = 1.
    """
    if space == "rgb":
        return image
    if space == "hsv":
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.uint8)
    if space == "lab":
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), np.uint8)
    if space == "hue":
        return np.ascontiguousarray(to_colour_space(image, "hsv")[:, :, :1])
    if space == "intensity":
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[:, :, None]
    if space == "rgi":
        total = np.maximum(image.sum(axis=2, dtype=np.uint16), 1)
        shares = [(image[:, :, channel] * np.float32(255) / total).astype(np.uint8) for channel in (0, 1)]
        return np.stack([*shares, to_colour_space(image, "intensity")[:, :, 0]], axis=2)
    raise ValueError(f"no colour space {space!r}")
