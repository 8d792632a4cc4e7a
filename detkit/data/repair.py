"""What is wrong with a box, and the three policies for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detkit.data.annotations import Annotations
from detkit.errors import UserError
from detkit.types import Size

Policy = Literal["clip", "drop", "error"]


def box_faults(boxes: NDArray[np.floating], sizes: Size | NDArray[np.integer]) -> dict[str, NDArray[np.bool_]]:
    """Masks [N] by kind of fault, for boxes [N, 4] xyxy half-open.

    sizes: (H, W) of the image they are in, or [N, 2], one per box; a side of 0 is unknown and nothing is beyond it.
    A box has at most one kind: "not finite", "inverted" (x2 < x1 or y2 < y1), "zero-size", or "out of range", in
    part or wholly beyond the image.
    """
    x1, y1, x2, y2 = boxes.T
    finite = np.isfinite(boxes).all(axis=1)
    inverted = finite & ((x2 < x1) | (y2 < y1))
    empty = finite & ~inverted & ((x2 == x1) | (y2 == y1))
    beyond = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2:] > _limits(sizes)[..., 2:]).any(axis=1)
    return {
        "not finite box": ~finite,
        "inverted box": inverted,
        "zero-size box": empty,
        "out-of-range box": finite & ~inverted & ~empty & beyond,
    }


def repair_boxes(
    boxes: NDArray[np.floating], sizes: Size | NDArray[np.integer], policy: Policy
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes float32 [N, 4] cut at the image border, and a mask [N] of those to keep.

    "clip" keeps what has an inside after the cut; "drop" keeps only what had no fault before it.
    """
    cut = np.clip(np.nan_to_num(boxes), 0, _limits(sizes)).astype(np.float32)
    keep = np.isfinite(boxes).all(axis=1) & (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
    if policy == "drop":
        keep &= ~np.any(list(box_faults(boxes, sizes).values()), axis=0)
    return cut, keep


def repair(annotations: Annotations, policy: Policy) -> Annotations:
    """The same images with every box usable, by declared image size: the objects that training sees.

    With "error" the first fault is raised as UserError.
    """
    images = annotations.image_of_object()
    sizes = annotations.sizes[images]
    if policy == "error":
        for kind, mask in box_faults(annotations.boxes, sizes).items():
            if mask.any():
                first = annotations.image_ids[int(images[mask.argmax()])]
                raise UserError(f"{annotations.source}: {int(mask.sum())} x {kind}, first in image {first}")
    cut, keep = repair_boxes(annotations.boxes, sizes, policy)
    counts = np.bincount(images[keep], minlength=len(annotations))
    return replace(
        annotations,
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)]),
        boxes=cut[keep],
        labels=annotations.labels[keep],
        difficult=annotations.difficult[keep],
        areas=None if annotations.areas is None else annotations.areas[keep],
    )


def _limits(sizes: Size | NDArray[np.integer]) -> NDArray[np.float32]:
    """[4] or [N, 4]: the largest x, y, x, y."""
    sides = np.asarray(sizes, np.float32)[..., ::-1]
    sides = np.where(sides > 0, sides, np.float32(np.inf))
    return np.concatenate([sides, sides], axis=-1)
