"""Interpret the four numbers of a box in a file, and check that they can mean that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detkit.core.errors import UserError

FORMS = ("xywh", "xyxy", "cxcywh", "yolo")
_FEWEST = 3  # distinct boxes from which a pattern in all of them is no chance


class Form(NamedTuple):
    """How boxes are written.

    name: xywh (left, top, width, height), xyxy (corners), cxcywh (centre) in pixels, or yolo (cx, cy, w, h as shares of
    the picture). given: the user said so, and only what cannot be is doubted. inclusive: whether the last pixel of
    xywh and xyxy is part of the box.
    """

    name: str = "xywh"
    given: bool = False
    inclusive: bool = False

    @classmethod
    def of(cls, name: str | None, inclusive: bool) -> Form:
        """Return the form that `boxes=name` means; null means xywh. Raises UserError for other names."""
        if name is not None and name not in FORMS:
            raise UserError(f"boxes={name} must be one of {', '.join(FORMS)}")
        return cls(name or "xywh", name is not None, inclusive)


@dataclass(frozen=True, kw_only=True)
class WrittenBoxes:
    """Boxes as they are written in a file.

    numbers: float64 [N, 4], finite. sizes: float64 [N, 2], width and height of the picture of each, NaN where unknown.
    name: says where box k stands, as "gt.json: entry 3"; what: "predictions" or "ground truth".
    """

    numbers: NDArray[np.float64]
    sizes: NDArray[np.float64]
    name: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.numbers)

    def told(self, index: int) -> str:
        """Describe a box: where it is written, and its numbers."""
        return f"{self.name(index)} has the box {[float(f'{value:.6g}') for value in self.numbers[index]]}"


def to_xyxy(written: WrittenBoxes, form: Form) -> NDArray[np.float64]:
    """Convert to xyxy pixels, half-open: float64 [N, 4]; raises UserError if the numbers cannot or hardly mean that."""
    if len(written) == 0:
        return np.zeros((0, 4))
    _refuse_negative(written, form)
    if form.name == "yolo":
        if np.isnan(written.sizes).any():
            unknown = int(np.flatnonzero(np.isnan(written.sizes).any(axis=1))[0])
            raise UserError(
                f"boxes=yolo are shares of the picture, and the size of that of {written.name(unknown)} is not known: "
                "add images=<the folder of the pictures>"
            )
        if (index := _most(~_shares(written.numbers))) is not None:
            raise UserError(f"{written.told(index)}, not shares of the picture (0 to 1): boxes=yolo does not fit")
    elif (index := _most(_shares(written.numbers))) is not None and not _whole(written.numbers):
        raise UserError(f"{written.told(index)}: most are shares of the picture, not pixels; {_of_shares(written)}")
    boxes = _convert(written.numbers, form, written.sizes)
    _refuse_beyond(written, form, boxes)
    if not form.given and np.isnan(written.sizes).all() and (index := _corners(written.numbers)) is not None:
        raise UserError(
            f"{written.told(index)}: in every box the last two numbers are beyond the first two, as in corners "
            "(left, top, right, bottom): add boxes=xyxy, or boxes=xywh if they are width and height"
        )
    return boxes


def from_xywh(numbers: NDArray[np.float64], form: Form, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert left, top, width, height in pixels to another form: float64 [N, 4]."""
    first, second = numbers[:, :2], numbers[:, 2:]
    if form.name == "xywh":
        return numbers
    if form.name == "xyxy":
        return np.concatenate([first, first + second - form.inclusive], axis=1)
    centred = [first + second / 2, second]
    return np.concatenate([one / sizes if form.name == "yolo" else one for one in centred], axis=1)


def refuse_scores(scores: NDArray[np.float64], name: Callable[[int], str]) -> None:
    """Raise UserError for the first score that is above 1 or below 0."""
    bad = np.flatnonzero((scores < 0) | (scores > 1 + 1e-6))
    if len(bad):
        percent = "; divide percent by 100" if 1 < scores.max() <= 100 and scores.min() >= 0 else ""
        raise UserError(f"{name(int(bad[0]))} has score {scores[bad[0]]:g}, must be from 0 to 1{percent}")


def other_forms(written: WrittenBoxes, form: Form) -> dict[str, NDArray[np.float64]]:
    """Convert the boxes from every other form in pixels in which they could be read: xyxy by its name."""
    found = {}
    for name in ("xywh", "xyxy", "cxcywh"):
        other = Form(name, inclusive=form.inclusive)
        if form.name not in (name, "yolo") and not _negative(written.numbers, name).any():
            found[name] = _convert(written.numbers, other, written.sizes)
    return found


def _convert(numbers: NDArray[np.float64], form: Form, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = numbers[:, :2], numbers[:, 2:]
    if form.name == "xyxy":
        return np.concatenate([first, second + form.inclusive], axis=1)
    if form.name == "xywh":
        return np.concatenate([first, first + second + form.inclusive], axis=1)
    if form.name == "yolo":
        first, second = first * sizes, second * sizes
    return np.concatenate([first - second / 2, first + second / 2], axis=1)


def _negative(numbers: NDArray[np.float64], name: str) -> NDArray[np.bool_]:
    size = numbers[:, 2:] - numbers[:, :2] if name == "xyxy" else numbers[:, 2:]
    return np.asarray((size < 0).any(axis=1))


def _refuse_negative(written: WrittenBoxes, form: Form) -> None:
    bad = np.flatnonzero(_negative(written.numbers, form.name))
    if not len(bad):
        return
    told = written.told(int(bad[0]))
    if form.name == "xyxy":
        fits = "; width and height would be boxes=xywh" if not _negative(written.numbers, "xywh").any() else ""
        raise UserError(f"{told}, whose right or bottom is before its left or top{fits}")
    fits = "" if _negative(written.numbers, "xyxy").any() else "; if they are corners, add boxes=xyxy"
    raise UserError(f"{told}, whose width or height is negative{fits or '; it must be x, y, width, height'}")


def _shares(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(numbers) <= 1.5).all(axis=1))


def _whole(numbers: NDArray[np.float64]) -> bool:
    """Tell whether all numbers are whole: a box 0 0 1 1 is one pixel, if nothing else speaks of shares."""
    return bool((numbers == np.round(numbers)).all())


def _most(which: NDArray[np.bool_]) -> int | None:
    """Return the first index, if more than half are set."""
    return int(np.flatnonzero(which)[0]) if which.mean() > 0.5 else None


def _of_shares(written: WrittenBoxes) -> str:
    unit = np.ones_like(written.sizes)
    fits = [
        name
        for name in ("yolo", "xywh", "xyxy")
        if not _negative(written.numbers, name).any()
        and not _beyond(_convert(written.numbers, Form(name), unit), unit).any()
    ]
    if "yolo" in fits:
        return "add boxes=yolo (and images=<folder> of the pictures) if they are cx, cy, w, h; else write pixels"
    means = {"xywh": "left, top, width, height", "xyxy": "corners"}
    return "they " + (f"look like {means[fits[0]]}" if fits else "fit no form") + "; write them in pixels"


def _beyond(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which boxes reach beyond their picture by more than rounding; False if the size is unknown."""
    slack = np.maximum(2.0 * (sizes > 2), 0.02 * sizes)
    return np.asarray(((boxes[:, 2:] > sizes + slack) | (boxes[:, :2] < -slack)).any(axis=1))


def _refuse_beyond(written: WrittenBoxes, form: Form, boxes: NDArray[np.float64]) -> None:
    known = ~np.isnan(written.sizes).any(axis=1)
    if not known.any():
        return
    outside = known & ((boxes[:, :2] >= written.sizes) | (boxes[:, 2:] <= 0)).any(axis=1) & (boxes != 0).any(axis=1)
    beyond = outside if form.given and form.name != "yolo" else known & _beyond(boxes, written.sizes)
    if 2 * beyond.sum() <= known.sum():
        return
    index = int(np.flatnonzero(beyond)[0])
    width, height = written.sizes[index]
    told = f"{written.told(index)}, beyond its picture of {width:g} x {height:g}, as are most: "
    if form.name == "yolo":
        raise UserError(told + "they are not the shares cx, cy, w, h that boxes=yolo means; write them in pixels")
    fits = [
        name for name, others in other_forms(written, form).items()
        if 20 * (known & _beyond(others, written.sizes)).sum() <= known.sum()
    ]  # fmt: skip
    raise UserError(
        told
        + (
            f"add boxes={fits[0]} (both files are then read so)"
            if fits
            else "are they of other pictures, or of another scale?"
        )
    )


def _corners(numbers: NDArray[np.float64]) -> int | None:
    """Return the clearest of boxes that are all corners, as far as numbers without a picture can tell; None if not.

    A large object in the middle of its picture has a width greater than its x, too; but corners are close to each other
    besides, and it takes several to be sure.
    """
    distinct = np.unique(numbers, axis=0)
    if len(distinct) < _FEWEST or (distinct[:, 2:] <= distinct[:, :2]).any():
        return None
    ratio = (numbers[:, :2] / numbers[:, 2:]).max(axis=1)
    return int(ratio.argmax()) if np.median(ratio) > 0.5 else None
