"""The forms in which files write four numbers for a box, and the evidence that a form is not the one that is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.errors import UserError

FORMS = ("xywh", "xyxy", "cxcywh", "yolo")
_MOST = 0.5  # share of boxes beyond their pictures from which on the numbers cannot be meant
_FEWEST = 4  # boxes below which corners are not told from sizes without the sizes of the pictures


def check_form(form: str | None, key: str) -> None:
    """Raise UserError where `form`, the value of `key`, is none of FORMS or null."""
    if form is not None and form not in FORMS:
        raise UserError(f"{key}={form} is no form of a box; must be one of {', '.join(FORMS)}")


def to_xyxy(
    numbers: NDArray[np.float64],
    form: str | None,
    *,
    path: Path,
    places: Sequence[str],
    key: str,
    sizes: NDArray[np.float64] | None = None,
    inclusive: bool = False,
) -> NDArray[np.float64]:
    """float64 [N, 4] xyxy pixels, half-open, from [N, 4] in `form`; null stands for xywh, if nothing speaks against it.

    places: where each box is written. sizes: float64 [N, 2] width, height of its picture; NaN where unknown.
    inclusive: boxes in pixels reach to the end of their last pixel. Raises UserError for negative sizes and where
    most boxes reach beyond their pictures; with form null also for shares and for corners, naming the form that fits.
    """
    numbers = numbers.reshape(-1, 4)
    sizes = np.full((len(numbers), 2), np.nan) if sizes is None else sizes
    if form is None:
        _refuse_shares(numbers, path, key)
    if form == "yolo":
        unknown = np.flatnonzero(np.isnan(sizes).any(axis=1))
        if len(unknown):
            raise UserError(
                f"{path} {places[unknown[0]]}: {key}=yolo are shares of a picture of unknown size; add images=DIR"
            )
        numbers = numbers * np.tile(sizes, 2)
        inclusive = False
    first, second = numbers[:, :2], numbers[:, 2:]
    extent = second - first if form == "xyxy" else second
    bad = np.flatnonzero((extent < 0).any(axis=1))
    if len(bad):
        shown = numbers[bad[0]].round(2).tolist()
        raise UserError(f"{path} {places[bad[0]]}: box {shown} has a negative size as {key}={form or 'xywh'}")
    start = first - extent / 2 if form in ("cxcywh", "yolo") else first
    if form is None:
        _refuse_corners(numbers, sizes, path, key)
    boxes = np.concatenate([start, start + extent + inclusive], axis=1)
    beyond = _beyond(boxes, sizes)
    if beyond.any() and beyond.sum() >= _MOST * len(boxes):
        index = np.flatnonzero(beyond)[0]
        width, height = sizes[index]
        raise UserError(
            f"{path}: {beyond.sum()} of {len(boxes)} boxes reach beyond their pictures as {key}={form or 'xywh'}, "
            f"first {places[index]}: {numbers[index].round(2).tolist()} in {width:g}x{height:g}"
        )
    return boxes


def check_scores(scores: NDArray[np.float64], path: Path, places: Sequence[str]) -> None:
    """Raise UserError for the first score outside 0..1."""
    bad = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(bad):
        percent = "; percent? divide them by 100" if 1 < scores[bad].max() <= 100 else ""
        raise UserError(f"{path} {places[bad[0]]}: score {scores[bad[0]]:g} is not within 0..1{percent}")


def _refuse_shares(numbers: NDArray[np.float64], path: Path, key: str) -> None:
    # whole numbers are pixels: a box of one pixel is none of a share
    if len(numbers) and (np.abs(numbers) <= 1.5).all() and (numbers != np.round(numbers)).any():
        raise UserError(
            f"{path}: all boxes are within 0..1.5, shares of the picture and no pixels; "
            f"add {key}=yolo where they are cx cy w h"
        )


def _refuse_corners(numbers: NDArray[np.float64], sizes: NDArray[np.float64], path: Path, key: str) -> None:
    """xyxy taken for xywh: all are boxes as corners, and as sizes a tenth leave their pictures.

    Where no size is known: at least four boxes, half of which would begin further from the edge than 0.7 of their size.
    """
    first, second = numbers[:, :2], numbers[:, 2:]
    if len(numbers) == 0 or not (second > first).all():
        return
    if np.isnan(sizes).any():
        far = (first > 0.7 * second).any(axis=1).mean() >= _MOST and len(numbers) >= _FEWEST
    else:
        far = not _beyond(numbers, sizes).any()
        far &= bool(_beyond(np.concatenate([first, first + second], axis=1), sizes).mean() >= 0.1)
    if far:
        raise UserError(f"{path}: the boxes are corners x1 y1 x2 y2 and no sizes x y w h; add {key}=xyxy")


def _beyond(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool [N]: boxes that leave their picture by more than a tenth of its size and two pixels; unknown sizes: no."""
    slack = 0.1 * sizes + 2
    return np.asarray(((boxes[:, 2:] > sizes + slack) | (boxes[:, :2] < -slack)).any(axis=1))
