"""Parse one line of a YOLO label file."""

from __future__ import annotations

import math

from detkit.core.structures import Size

ROUNDING = 0.01  # a share; exporters round, or cut a picture after they drew on it
PIXELS = 1.5  # a share of the picture beyond this is none; the visibility of a keypoint may be 2
Box = tuple[float, float, float, float]


def parse_yolo_line(line: str, size: Size, keypoints: int = 0) -> tuple[int, Box]:
    """(class number, box xyxy in pixels of an image of `size`) of one line; raises ValueError saying what is wrong.

    The numbers are shares of the image: "class cx cy w h", with those of the keypoints after it where a row has
    `keypoints` of them, or "class x1 y1 x2 y2 x3 y3 ...", a polygon. The class may be written 0.0. Blanks, tabs, commas
    and semicolons separate; what lies at most 1 % beyond the image is cut.
    """
    fields = _fields(line)
    index = _class(fields[0])
    values = [_number(field) for field in fields[1:]]
    count = len(values)
    if keypoints and count == 4 + keypoints:
        values = values[:4]
    elif keypoints and count != 4:
        raise ValueError(f"{count} numbers after the class: want 4, and {keypoints} of kpt_shape")
    elif count == 5:
        raise ValueError("a sixth column, the confidence? remove it")
    elif count != 4 and (count < 6 or count % 2):
        more = "; a confidence at the end, or keypoints without kpt_shape in data.yaml?" if count > 6 else ""
        raise ValueError(f"{count} numbers after the class: want 4, or 3 or more pairs{more}")
    largest = max(map(abs, values))
    if largest > PIXELS:
        what = "keypoints without kpt_shape in data.yaml, or pixels?" if count > 8 else "pixels?"
        raise ValueError(f"{largest:g} is no share of the image: {what}")
    height, width = size
    if len(values) == 4:
        cx, cy, w, h = values
        if w < 0 or h < 0:
            raise ValueError("a negative width or height")
        xs, ys = [cx - w / 2, cx + w / 2], [cy - h / 2, cy + h / 2]
    else:
        xs, ys = values[0::2], values[1::2]
    x1, y1, x2, y2 = (_cut(share) for share in (min(xs), min(ys), max(xs), max(ys)))
    return index, (x1 * width, y1 * height, x2 * width, y2 * height)


def _fields(line: str) -> list[str]:
    """Split at blanks where there are enough, else at ; or commas; a comma inside a number is a decimal point."""
    if ";" in line:
        fields = line.split(";")
    elif len(line.split()) >= 5 or "," not in line:
        fields = line.split()
    else:
        fields = line.rstrip(", ").split(",")
    return [field.strip().strip(",").replace(",", ".") for field in fields if field.strip()] or [""]


def _class(text: str) -> int:
    try:
        value = _number(text)
    except ValueError:
        raise ValueError(f"class {text!r} is no number") from None
    if not value.is_integer():
        raise ValueError(f"class {text} is no whole number")
    return int(value)


def _number(text: str) -> float:
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def _cut(share: float) -> float:
    """A share just beyond the image, put on its border."""
    return min(max(share, 0.0), 1.0) if -ROUNDING <= share <= 1 + ROUNDING else share
