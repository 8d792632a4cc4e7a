"""Apply Albumentations transforms to an image with its boxes and proposals."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import TypeAlias

import albumentations
import numpy as np
from numpy.typing import NDArray

from detkit.core.errors import UserError
from detkit.data.augment.mosaic import Columns, Picture

Transform: TypeAlias = albumentations.BasicTransform | albumentations.BaseCompose


class Augment:
    """A list of Albumentations transforms that carry boxes, and every column that belongs to them, along.

    transforms: built transforms, applied in order; each decides by its own `p`.
    min_visibility: a box that a transform leaves less than this share of its area is dropped.
    min_size: so is one with a side of fewer pixels.

    The result is a pure function of the image, the target and the seed.
    """

    def __init__(self, *, transforms: Sequence[Transform], min_visibility: float = 0.1, min_size: float = 2.0) -> None:
        boxes = albumentations.BboxParams(
            format="pascal_voc",  # absolute pixels; half-open there as here
            clip=True,
            min_visibility=min_visibility,
            min_width=min_size,
            min_height=min_size,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got processor for bboxes")  # a list of colour changes moves no box
            try:
                self._compose = albumentations.Compose(
                    list(transforms), bbox_params=boxes, additional_targets={"proposals": "bboxes"}, strict=True
                )
            except ValueError as error:  # strict: a mistyped argument of a transform is not ignored
                raise UserError(f"augment.transforms: {error}") from error

    def __call__(self, image: NDArray[np.uint8], target: Columns, seed: int) -> Picture:
        """The changed image, uint8 [H, W, 3], and target.

        target: "boxes" float32 [N, 4] xyxy pixels inside the image, "proposals" [P, 4] likewise where there are
        any; every other entry is a column [N] of the boxes. Boxes that fall away take their entries with them.
        """
        if not self._compose.transforms:
            return image, target
        # one generator for all: set_random_seed would give each transform its own of the same seed, and two flips
        # would always agree
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        carried = {"bboxes": _with_rows(target["boxes"])}
        if "proposals" in target:
            carried["proposals"] = _with_rows(target["proposals"])
        changed = self._compose(image=image, **carried)
        boxes, rows = _split_rows(changed["bboxes"])
        result = {key: column[rows] for key, column in target.items() if key not in ("boxes", "proposals")}
        result["boxes"] = boxes
        if "proposals" in target:
            result["proposals"] = _split_rows(changed["proposals"])[0]
        return np.ascontiguousarray(changed["image"]), result


def _with_rows(boxes: NDArray[np.floating]) -> NDArray[np.float32]:
    """[N, 5]: boxes and their row number, which a float32 holds exactly up to 2**24."""
    rows = np.arange(len(boxes), dtype=np.float32)
    return np.concatenate([boxes.reshape(-1, 4).astype(np.float32), rows[:, None]], axis=1)


def _split_rows(carried: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if len(carried) == 0:  # Albumentations may hand back [0, 4]
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return carried[:, :4].astype(np.float32), carried[:, 4].astype(np.int64)
