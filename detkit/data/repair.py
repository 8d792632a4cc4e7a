"""What is wrong with a box, and the three policies for it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detkit.types import Size

Policy = Literal["clip", "drop", "error"]


def box_faults(boxes: NDArray[np.floating], size: Size) -> dict[str, NDArray[np.bool_]]:
    """Masks [N] by kind of fault, for boxes [N, 4] xyxy half-open of an image of `size` (H, W).

    A box has at most one kind: "not finite", "inverted" (x2 < x1 or y2 < y1), "zero-size", or "out of range"
    (in part or wholly beyond the image). A size of 0 is unknown: nothing is beyond it on that side.
    """
    height, width = size
    x1, y1, x2, y2 = boxes.reshape(-1, 4).T
    finite = np.isfinite(boxes.reshape(-1, 4)).all(axis=1)
    inverted = finite & ((x2 < x1) | (y2 < y1))
    empty = finite & ~inverted & ((x2 == x1) | (y2 == y1))
    beyond = (x1 < 0) | (y1 < 0) | (x2 > (width or np.inf)) | (y2 > (height or np.inf))
    return {
        "not finite box": ~finite,
        "inverted box": inverted,
        "zero-size box": empty,
        "out-of-range box": finite & ~inverted & ~empty & beyond,
    }


def clip_boxes(boxes: NDArray[np.floating], size: Size) -> NDArray[np.floating]:
    """Boxes [N, 4] cut at the border of an image of `size` (H, W)."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def usable(boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Mask [N] of the boxes that are finite and have an inside."""
    return np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
