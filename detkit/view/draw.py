"""Draw boxes, names and scores on an image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.ops import box_iou

from detkit.core.palette import RGB, class_colour, text_colour
from detkit.core.structures import Detections, Target

WHITE: RGB = (255, 255, 255)
BLACK: RGB = (0, 0, 0)
Box = Sequence[float]
Picture: TypeAlias = str | PathLike[str] | NDArray[np.uint8] | Image.Image


def draw_detections(
    image: Picture, detections: Detections, *, target: Target | None = None, score_threshold: float = 0.0
) -> Image.Image:
    """A new RGB picture with `detections` in class colours and, where given, the ground truth dashed in white.

    A ground truth that no drawn detection of its class covers (IoU >= 0.5) is named too: it was missed.
    image: a path, an array [H, W, 3] uint8 RGB, or a PIL image; it is not changed.
    detections, target: boxes in pixels of this image. Only scores >= score_threshold are drawn, the best on top.
    """
    picture = _as_picture(image)
    draw = ImageDraw.Draw(picture)
    width = max(2, round(sum(picture.size) / 500))
    font = _font(max(10, round(sum(picture.size) / 90)))
    shown = detections[detections.scores >= score_threshold]
    if target is not None:
        for box in target["boxes"].tolist():
            _dashed_rectangle(draw, box, max(1, width // 2))
        missed = _missed(shown, target)
        for box, label in zip(target["boxes"][missed].tolist(), target["labels"][missed].tolist(), strict=True):
            _label(draw, picture.size, (box[0], box[3]), detections.name(label), font, WHITE, above=False)
    rows = list(zip(shown.boxes.tolist(), shown.scores.tolist(), shown.labels.tolist(), strict=True))[::-1]
    for box, _, label in rows:
        colour = class_colour(label)
        _rectangle(draw, box, width + 1, text_colour(colour))  # a thin edge keeps the line visible on its own colour
        _rectangle(draw, box, width, colour)
    for box, score, label in rows:
        text = f"{detections.name(label)} {score:.2f}"
        _label(draw, picture.size, (box[0], box[1]), text, font, class_colour(label), above=True)
    return picture


def _as_picture(image: Picture) -> Image.Image:
    if isinstance(image, (str, PathLike)):
        from detkit.image.read import read_image

        image = read_image(Path(image))
    if isinstance(image, np.ndarray):
        return Image.fromarray(np.array(image))
    return image.convert("RGB").copy()


def _missed(shown: Detections, target: Target) -> Tensor:
    """Which ground truths no detection of their class covers: bool [N]."""
    overlap: Tensor = box_iou(target["boxes"], shown.boxes)
    covers = (overlap >= 0.5) & (target["labels"][:, None] == shown.labels[None])
    return ~covers.any(dim=1)


def _rectangle(draw: ImageDraw.ImageDraw, box: Box, width: int, colour: RGB) -> None:
    """The outline of a half-open box: its last painted pixel is one before the right and bottom edge."""
    left, top, right, bottom = box
    draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)


def _dashed_rectangle(draw: ImageDraw.ImageDraw, box: Box, width: int) -> None:
    left, top, right, bottom = box
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    for start, end in pairwise(corners):
        draw.line((start, end), fill=BLACK, width=width)
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        steps = max(1, int(length // (4 * width + 4)))
        for step in range(steps):
            first, last = step / steps, (step + 0.6) / steps
            draw.line((_between(start, end, first), _between(start, end, last)), fill=WHITE, width=width)


def _between(start: tuple[float, float], end: tuple[float, float], share: float) -> tuple[float, float]:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: RGB,
    *,
    above: bool,
) -> None:
    """`text` on a filled plate that starts at `corner` and never leaves the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(corner[0], 0), max(size[0] - width, 0))
    y = corner[1] - height if above and corner[1] >= height else corner[1]
    y = min(max(y, 0), max(size[1] - height, 0))
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    draw.text((x + 2 - left, y + 2 - top), text, font=font, fill=text_colour(colour))


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans as matplotlib ships it: Latin, Greek, Cyrillic, Arabic, Hebrew names are drawn as they are."""
    package = find_spec("matplotlib")
    for folder in package.submodule_search_locations or () if package else ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)
