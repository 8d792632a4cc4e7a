"""Classify faults of boxes and repair them by policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detkit.core.errors import UserError
from detkit.core.structures import Size
from detkit.data.annotations import Annotations

Policy = Literal["clip", "drop", "error"]
DUPLICATE_IOU = 0.99  # exporters round the same box differently
ROUNDING = 0.5  # pixels; formats store shares of the image or two decimals, so a box may end just beyond it
SLIVER = 1.0  # pixels; a side that the cut at the border leaves shorter shows nothing


def box_faults(
    boxes: NDArray[np.floating], sizes: Size | NDArray[np.integer], labels: NDArray[np.integer] | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Masks [N] by kind of fault, for boxes [N, 4] xyxy half-open.

    sizes: (H, W) of the image they are in, or [N, 2], one per box; a side of 0 is unknown and nothing is beyond it.
    labels: [N]; where given, all boxes are of one image, and those that repeat an earlier one are "duplicate box".
    The other kinds exclude each other: "not finite", "inverted" (x2 < x1 or y2 < y1), "zero-size", "one-pixel" (a
    side of at most that: a click, not a box), "out-of-range", in part or wholly, by more than half a pixel.
    """
    finite = np.isfinite(boxes).all(axis=1)
    x1, y1, x2, y2 = np.where(finite[:, None], boxes, 0).T
    inverted = finite & ((x2 < x1) | (y2 < y1))
    shorter = np.minimum(x2 - x1, y2 - y1)
    empty = finite & ~inverted & (shorter == 0)
    click = finite & (shorter > 0) & (shorter <= 1)
    beyond = (boxes[:, :2] < -ROUNDING).any(axis=1) | (boxes[:, 2:] > _limits(sizes)[..., 2:] + ROUNDING).any(axis=1)
    faults = {
        "not finite box": ~finite,
        "inverted box": inverted,
        "zero-size box": empty,
        "one-pixel box": click,
        "out-of-range box": finite & (shorter > 1) & beyond,
    }
    if labels is not None:
        faults["duplicate box"] = duplicates(boxes, labels)
    return faults


def duplicates(boxes: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mask [N] of the boxes of one image that have the place (IoU >= 0.99) and label of an earlier one."""
    if len(boxes) < 2:
        return np.zeros(len(boxes), np.bool_)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    sides = np.minimum(high, boxes[None, :, 2:]) - np.maximum(low, boxes[None, :, :2])
    shared = np.clip(sides, 0, None).prod(axis=2)  # [N, N]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    with np.errstate(invalid="ignore"):  # what is not finite is no duplicate
        same_place = shared >= DUPLICATE_IOU * (areas[:, None] + areas[None, :] - shared)
    same_place &= shared > 0
    return np.tril(same_place & (labels[:, None] == labels[None, :]), -1).any(axis=1)


def repair_boxes(
    boxes: NDArray[np.floating],
    sizes: Size | NDArray[np.integer],
    policy: Policy,
    labels: NDArray[np.integer] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes float32 [N, 4], corners in order and cut at the image border, and a mask [N] of those to keep.

    "clip" keeps what has an inside after that, even one pixel, as published scores count it, unless the cut left a
    sliver under a pixel wide; "drop" keeps only what had no fault before. With `labels` (all of one image) duplicates
    go too. What "error" means is up to the caller: it knows the name of the image.
    """
    finite = np.nan_to_num(boxes, posinf=np.finfo(np.float32).max, neginf=np.finfo(np.float32).min)
    ordered = np.concatenate(
        [np.minimum(finite[:, :2], finite[:, 2:]), np.maximum(finite[:, :2], finite[:, 2:])], axis=1
    )
    cut = np.clip(ordered, 0, _limits(sizes)).astype(np.float32)
    sides = cut[:, 2:] - cut[:, :2]
    sliver = (sides < SLIVER).any(axis=1) & (cut != ordered).any(axis=1)
    keep = np.isfinite(boxes).all(axis=1) & (sides > 0).all(axis=1) & ~sliver
    if policy == "drop":
        keep &= ~np.any(list(box_faults(boxes, sizes).values()), axis=0)
    if labels is not None:
        keep[keep] = ~duplicates(cut[keep], labels[keep])
    return cut, keep


def repair(annotations: Annotations, policy: Policy) -> Annotations:
    """The same images with every box usable, by declared image size: what evaluation counts.

    Duplicates stay: published scores count every annotated object. With "error" the first fault is raised as
    UserError.
    """
    images = annotations.image_of_object()
    sizes = annotations.sizes[images]
    if policy == "error":
        for kind, mask in box_faults(annotations.boxes, sizes).items():
            if mask.any():
                first = int(mask.argmax())
                raise UserError(
                    f"{annotations.source}: {int(mask.sum())} x {kind}, first in image "
                    f"{annotations.image_ids[int(images[first])]}: {annotations.boxes[first].tolist()}"
                )
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
