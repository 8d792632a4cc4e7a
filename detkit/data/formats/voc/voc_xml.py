"""Parse annotation files in PASCAL VOC form, as the many tools that export them write them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from detkit.core.errors import UserError
from detkit.core.structures import Size
from detkit.core.text_file import read_xml
from detkit.data.annotation_builder import RawObject

_FALSE = ("", "0", "false", "no", "n", "f", "none", "null", "unspecified")
_TRUE = ("1", "true", "yes", "y", "t")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FOREIGN = {
    "annotations": "; is it CVAT's own XML? export it as PASCAL VOC",
    "html": "; it is a web page, not the file that it should be",
    "dataset": "; is it dlib's XML? write one file for each picture, in PASCAL VOC form",
}


class Slip(NamedTuple):
    """What is wrong with an object of a file: the kind of fault, and a sentence."""

    kind: str
    message: str


class VocFile(NamedTuple):
    """What one annotation file says; `size` is (0, 0) where it says none, `slips` are what could not be used."""

    filename: str
    size: Size
    objects: list[RawObject]
    slips: list[Slip]


def parse_voc(path: str | Path) -> VocFile:
    """Read one annotation file; boxes become 0-based and half-open: [xmin - 1, ymin - 1, xmax, ymax].

    Every `bndbox` of an object is an object. Where there is none, the box around its `polygon` or `robndbox` is taken.
    Corners are put in order first, which is a slip too. Raises UserError where the file is no XML or is of another
    form, OSError where it cannot be read.
    """
    root = read_xml(path)
    for element in root.iter():  # some exporters give the tags a namespace
        element.tag = str(element.tag).rpartition("}")[2]
    if root.tag.lower() != "annotation":
        hint = _FOREIGN.get(root.tag.lower(), "")
        raise UserError(f"{path} is no VOC annotation: its outermost element is <{root.tag}>, not <annotation>{hint}")
    objects: list[RawObject] = []
    slips: list[Slip] = []
    for number, element in enumerate(root.iterfind("object"), start=1):
        name = _text(element, "name")
        if not name:
            slips.append(Slip("nameless object", f"object {number} has no <name>"))
            continue
        difficult = _flag(element, number, slips)
        for box in _boxes(element, f"object {number}, {name!r},", slips):
            objects.append(RawObject(name, box, difficult))
    height, width = (_side(_text(root, f"size/{key}")) for key in ("height", "width"))
    return VocFile(_text(root, "filename"), (height, width) if height and width else (0, 0), objects, slips)


def _boxes(element: ElementTree.Element, who: str, slips: list[Slip]) -> Iterator[tuple[float, float, float, float]]:
    found = element.findall("bndbox")
    shapes = found or [*element.iterfind("polygon"), *element.iterfind("robndbox")]
    if not shapes:
        slips.append(Slip("unreadable box", f"{who} has no <bndbox>, <polygon> or <robndbox>"))
    for shape in shapes:
        try:
            corners = _corners(shape)
        except ValueError as error:
            slips.append(Slip("unreadable box", f"{who} has no readable <{shape.tag}>: {error}"))
            continue
        xmin, xmax, turned_x = _in_order(corners[0], corners[2])
        ymin, ymax, turned_y = _in_order(corners[1], corners[3])
        if turned_x or turned_y:
            given = ", ".join(f"{value:g}" for value in corners)
            slips.append(Slip("inverted box", f"{who} has the corners [{given}] in the wrong order; put in order"))
        yield xmin - 1, ymin - 1, xmax, ymax


def _corners(shape: ElementTree.Element) -> tuple[float, float, float, float]:
    """xmin, ymin, xmax, ymax as the file counts; raises ValueError saying what is wrong."""
    if shape.tag == "bndbox":
        xmin, ymin, xmax, ymax = (_number(shape, key) for key in _CORNERS)
        return xmin, ymin, xmax, ymax
    if shape.tag == "robndbox":  # a turned box by its centre, as roLabelImg writes it
        cx, cy, width, height, angle = (_number(shape, key) for key in ("cx", "cy", "w", "h", "angle"))
        if not math.isfinite(angle):
            raise ValueError(f"its angle is {angle}")
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
        x, y = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
        return cx - x, cy - y, cx + x, cy + y
    points = _points(shape)
    if len(points) < 2:
        raise ValueError(f"it has {len(points)} points")
    xs, ys = zip(*points, strict=True)
    if not all(map(math.isfinite, (*xs, *ys))):
        raise ValueError("a point is not finite")
    return min(xs), min(ys), max(xs), max(ys)


def _points(polygon: ElementTree.Element) -> list[tuple[float, float]]:
    """The corners of <pt><x/><y/></pt> (LabelMe) or <x1/><y1/><x2/><y2/> (RectLabel, Labelbox)."""
    nested = [item for tag in ("pt", "point") for item in polygon.iterfind(tag)]
    if nested:
        return [(_number(item, "x"), _number(item, "y")) for item in nested]
    numbers = sorted({int(item.tag[1:]) for item in polygon if item.tag[:1] == "x" and item.tag[1:].isdecimal()})
    return [(_number(polygon, f"x{number}"), _number(polygon, f"y{number}")) for number in numbers]


def _in_order(low: float, high: float) -> tuple[float, float, bool]:
    """(smaller, larger, whether they were the other way round); high = low - 1 is an empty box and stays one."""
    return (high, low, True) if high < low - 1 else (low, high, False)


def _number(element: ElementTree.Element, key: str) -> float:
    text = _text(element, key)
    if not text:
        raise ValueError(f"it has no <{key}>")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"<{key}> is {text[:40]!r}, not a number") from None


def _flag(element: ElementTree.Element, number: int, slips: list[Slip]) -> bool:
    text = _text(element, "difficult").lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    try:
        return float(text) != 0
    except ValueError:
        slips.append(Slip("unreadable flag", f"object {number} is difficult={text[:40]!r}, taken as 0; write 0 or 1"))
        return False


def _side(text: str) -> int:
    try:
        side = float(text or 0)
    except ValueError:
        return 0
    return int(side) if 1 <= side < 2**31 else 0


def _text(element: ElementTree.Element, path: str) -> str:
    return " ".join((element.findtext(path) or "").split())
