"""Compute the box around a COCO segmentation: polygons, or run lengths, plain or compressed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from detkit.core.plain import Json

Box = tuple[float, float, float, float]


def segmentation_box(segmentation: Json) -> Box | None:
    """The box xyxy around a segmentation, which needs no pycocotools; None where it is empty.

    Polygons are lists of x, y, x, y, ... in pixels; run lengths {"size": [h, w], "counts": list or string} cover whole
    pixels. Raises ValueError where it is neither.
    """
    if isinstance(segmentation, dict):
        return _run_box(segmentation)
    if not isinstance(segmentation, list):
        raise ValueError("segmentation is neither polygons nor run lengths")
    polygons = segmentation if any(isinstance(part, list) for part in segmentation) else [segmentation]
    xs: list[float] = []
    ys: list[float] = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            raise ValueError("a polygon of segmentation is no list of pairs x, y")
        values = [_number(value) for value in polygon]
        xs += values[0::2]
        ys += values[1::2]
    return (min(xs), min(ys), max(xs), max(ys)) if xs else None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(float(value)):
        raise ValueError(f"segmentation holds {value!r}, no number")
    return float(value)


def _run_box(runs: dict[str, Json]) -> Box | None:
    """Runs go down the columns, first of background, then of the object, and so on in turn."""
    size, counts = runs.get("size"), runs.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ValueError("run lengths have no size [height, width]")
    height, width = size
    if isinstance(counts, str):
        counts = _unpack(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("run lengths have no counts")
    if sum(counts) != height * width:
        raise ValueError(f"run lengths cover {sum(counts)} pixels of a mask of {height} x {width}")
    ends = [0]
    for count in counts:
        ends.append(ends[-1] + count)
    spans = [(start, end - 1) for start, end in list(pairwise(ends))[1::2] if end > start]
    if not spans:
        return None
    columns = [position // height for span in spans for position in span]
    # a run that goes on in the next column touches the bottom of one and the top of the other
    rows = [(a % height, b % height) if a // height == b // height else (0, height - 1) for a, b in spans]
    top, bottom = min(first for first, _ in rows), max(last for _, last in rows)
    return float(min(columns)), float(top), float(max(columns) + 1), float(bottom + 1)


def _unpack(text: str) -> Sequence[int]:
    """The counts of a packed string: 5 bits a character, low first, from the fourth on as difference to the last
    but one."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError("run lengths hold a character that is none of theirs")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
