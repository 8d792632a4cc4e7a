"""Resize and pad images to a model's input, and map boxes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.core.structures import Size
from detkit.image.read import read_image, read_image_size

REDUCTIONS = (8, 4, 2)  # of a JPEG, the largest that leaves enough
Boxes = TypeVar("Boxes", Tensor, NDArray[np.float32])
Decoded = tuple[NDArray[np.uint8], Size]  # a picture, and the (h, w) of its file


class Geometry(NamedTuple):
    """Where an image goes: x_input = x_original * scale + offset.

    size: (h, w) of the picture handed to the detector, bars of a letterbox included.
    scale: (sy, sx). offset: (top, left) in pixels.
    """

    size: Size
    scale: tuple[float, float]
    offset: Size = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Base of the three kinds. Geometry is a pure function of the size of the original image.

    Law: to_original(to_input(boxes)) == boxes for boxes inside the image. Pictures are resampled bilinearly,
    without an antialias filter, as the published detectors do.

    pad_multiple: a batch's canvas is rounded up to a multiple of this on both sides.
    decode: "full", or "reduced": JPEG files at 1/2, 1/4 or 1/8 of their sides where that is still large enough, which
    is faster and leaves less aliasing than resampling all their pixels. Pictures that are no files come whole.
    """

    pad_multiple: int = 1
    decode: str = "full"

    def __post_init__(self) -> None:
        if self.decode not in ("full", "reduced"):
            raise UserError(f"preprocess.decode={self.decode}: choose full or reduced")

    def geometry(self, original_size: Size) -> Geometry:
        """Where an image of `original_size` (H, W) goes."""
        raise NotImplementedError

    def content(self, original_size: Size) -> Size:
        """(h, w) that the picture itself gets, without the bars of a letterbox."""
        return self.geometry(original_size).size

    @property
    def side(self) -> int:
        """The pixels by which it is called: of its short side, its height or its square."""
        raise NotImplementedError

    def at(self, side: int) -> Preprocess:
        """The same with `side` in place of its own size, for training at several; what else it has keeps its ratio."""
        raise NotImplementedError

    def read(
        self,
        path: str | Path,
        *,
        decoder: Callable[..., NDArray[np.uint8]] = read_image,
        upright: bool = True,
        room: float = 1.0,
    ) -> Decoded:
        """The picture at `path`, decoded as `decode` says, and the (h, w) of its file; raises UserError naming it.

        decoder, upright: `read_image` and its argument. room: how many times the pixels that the detector sees a
        reduced picture must have along its sides, 2 where a part of it may be cut out and enlarged.
        """
        if self.decode == "full":
            image = decoder(path, upright=upright)
            return image, _size(image)
        size = read_image_size(path, upright=upright)
        needed = [room * side for side in self.content(size)]
        enough = (k for k in REDUCTIONS if all(side // k >= least for side, least in zip(size, needed, strict=True)))
        return decoder(path, upright=upright, reduction=next(enough, 1)), size

    def __call__(self, image: NDArray[np.uint8], original_size: Size | None = None) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] to uint8 [h, w, 3]; original_size: of the file, where the image was decoded smaller."""
        return _resize(image, self.content(original_size or _size(image)))

    def to_input(self, boxes: Boxes, original_size: Size) -> Boxes:
        """Boxes [N, 4] xyxy of an image of `original_size`, in the pixels of the detector's input."""
        _, (scale_y, scale_x), (top, left) = self.geometry(original_size)
        scale = [scale_x, scale_y, scale_x, scale_y]
        return boxes * _like(boxes, scale) + _like(boxes, [left, top, left, top])

    def to_original(self, boxes: Boxes, original_size: Size) -> Boxes:
        """Boxes [N, 4] xyxy of the detector's input, in the pixels of the original, clipped to it."""
        _, (scale_y, scale_x), (top, left) = self.geometry(original_size)
        scale = [scale_x, scale_y, scale_x, scale_y]
        height, width = original_size
        found = (boxes - _like(boxes, [left, top, left, top])) / _like(boxes, scale)
        return found.clip(_like(boxes, [0, 0, 0, 0]), _like(boxes, [width, height, width, height]))

    def to_dict(self) -> Settings:
        """The config that builds this again, for a checkpoint."""
        return {"_target_": f"{type(self).__module__}.{type(self).__qualname__}", **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class ShortSide(Preprocess):
    """The short side becomes `short` pixels, unless that makes the long side more than `max`."""

    short: int = 600
    max: int = 1000

    def geometry(self, original_size: Size) -> Geometry:
        """Both sides by one factor, each rounded to whole pixels."""
        factor = min(self.short / min(original_size), self.max / max(original_size))
        size = _scaled(original_size, factor)
        return Geometry(size, _ratio(size, original_size))

    @property
    def side(self) -> int:
        """The short side, in pixels."""
        return self.short

    def at(self, side: int) -> ShortSide:
        """The short side becomes `side`."""
        return replace(self, short=side, max=round(self.max * side / self.short))


@dataclass(frozen=True, kw_only=True)
class Warp(Preprocess):
    """Every image becomes `height` by `width`, whatever its shape."""

    height: int = 300
    width: int = 300

    def geometry(self, original_size: Size) -> Geometry:
        """Each side by its own factor."""
        size = (self.height, self.width)
        return Geometry(size, _ratio(size, original_size))

    @property
    def side(self) -> int:
        """The height, in pixels."""
        return self.height

    def at(self, side: int) -> Warp:
        """The height becomes `side`."""
        return replace(self, height=side, width=round(self.width * side / self.height))


@dataclass(frozen=True, kw_only=True)
class Letterbox(Preprocess):
    """The long side becomes `size` pixels; bars of grey value `fill` complete the square, the image in the middle."""

    size: int = 416
    fill: int = 114

    def geometry(self, original_size: Size) -> Geometry:
        """Both sides by one factor, then centred."""
        content = self.content(original_size)
        offset = ((self.size - content[0]) // 2, (self.size - content[1]) // 2)
        return Geometry((self.size, self.size), _ratio(content, original_size), offset)

    @property
    def side(self) -> int:
        """The side of the square, in pixels."""
        return self.size

    def at(self, side: int) -> Letterbox:
        """The square is `side` wide and high."""
        return replace(self, size=side)

    def __call__(self, image: NDArray[np.uint8], original_size: Size | None = None) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] to uint8 [size, size, 3]; original_size: of the file, where the image is smaller."""
        original_size = original_size or _size(image)
        (top, left), (height, width) = self.geometry(original_size).offset, self.content(original_size)
        canvas = np.full((self.size, self.size, image.shape[2]), self.fill, np.uint8)
        canvas[top : top + height, left : left + width] = _resize(image, (height, width))
        return canvas

    def content(self, original_size: Size) -> Size:
        """Both sides by one factor, each rounded to whole pixels."""
        return _scaled(original_size, self.size / max(original_size))


def fixed_canvas(preprocess: Preprocess) -> Size | None:
    """The (h, w) of the canvas, where it is the same for all images."""
    sizes = {preprocess.geometry(size).size for size in ((64, 96), (96, 64), (64, 64))}
    if len(sizes) > 1:
        return None
    height, width = (-(-side // preprocess.pad_multiple) * preprocess.pad_multiple for side in sizes.pop())
    return height, width


def _size(image: NDArray[np.uint8]) -> Size:
    return image.shape[0], image.shape[1]


def _scaled(size: Size, factor: float) -> Size:
    height, width = (max(1, math.floor(side * factor + 0.5)) for side in size)
    return height, width


def _ratio(size: Size, original_size: Size) -> tuple[float, float]:
    return size[0] / original_size[0], size[1] / original_size[1]


def _resize(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if _size(image) == size:
        return image
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.uint8)


def _like(boxes: Boxes, values: Sequence[float]) -> Boxes:
    if isinstance(boxes, Tensor):
        return torch.tensor(values, dtype=boxes.dtype, device=boxes.device)
    return np.array(values, boxes.dtype)
