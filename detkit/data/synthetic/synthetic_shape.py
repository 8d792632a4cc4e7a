"""Generate the outlines of shapes in synthetic scenes: objects and clutter."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Contours = list[NDArray[np.float64]]  # each [K, 2] x, y; a second contour inside the first is a hole
_SUBPIXEL_BITS = 6


def _circle(radius: float) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _polygon(radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners at equal angles, at these distances from the centre."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _disk(rng: Generator) -> Contours:
    return [_circle(0.9)]


def _ring(rng: Generator) -> Contours:
    return [_circle(0.9), _circle(0.9 * rng.uniform(0.45, 0.65))]


def _square(rng: Generator) -> Contours:
    return [_polygon(np.ones(4))]


def _triangle(rng: Generator) -> Contours:
    return [_polygon(np.ones(3))]


def _star(rng: Generator) -> Contours:
    return [_polygon(np.tile([1, rng.uniform(0.4, 0.5)], int(rng.integers(5, 7))))]


def _blob(rng: Generator) -> Contours:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waves = sum(rng.uniform(0.1, 0.25) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
    radii = 0.55 + waves
    return [np.clip(radii, 0.1, 1)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)]


def _bar(rng: Generator) -> Contours:
    half = rng.uniform(0.08, 0.2)
    return [np.array([[-1, -half], [1, -half], [1, half], [-1, half]])]


def _crescent(rng: Generator) -> Contours:
    half = rng.uniform(0.8, 1.4)
    angles = np.linspace(-half, half, 24)
    outer = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    depth = np.cos(angles) * rng.uniform(0.6, 0.8)
    inner = np.stack([depth + 0.2 * np.cos(half), np.sin(angles)], axis=1)
    return [np.concatenate([outer, inner[::-1]])]


def _zigzag(rng: Generator) -> Contours:
    x = np.linspace(-1, 1, int(rng.integers(4, 7)))
    y = 0.35 * (-1.0) ** np.arange(len(x))
    thick = rng.uniform(0.12, 0.25)
    return [np.concatenate([np.stack([x, y - thick], axis=1), np.stack([x, y + thick], axis=1)[::-1]])]


SHAPES: dict[str, Callable[[Generator], Contours]] = {
    "disk": _disk,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}
CLUTTER = (_blob, _bar, _crescent, _zigzag)


class Stencil(NamedTuple):
    """A shape put down on the plane of the image, maybe beyond its border.

    alpha: float32 [h, w], 0..1, the share of each pixel that it covers. left, top: where that is in the image.
    """

    alpha: NDArray[np.float32]
    left: int
    top: int

    @property
    def covers(self) -> NDArray[np.bool_]:
        """bool [h, w]: the pixels that count as its own."""
        return self.alpha >= 0.5

    def inside(self, size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """(slices of an image of `size`, slices of alpha) where the two overlap; None where they do not."""
        height, width = self.alpha.shape
        y1, y2 = max(0, self.top), min(size[0], self.top + height)
        x1, x2 = max(0, self.left), min(size[1], self.left + width)
        if y1 >= y2 or x1 >= x2:
            return None
        here = (slice(y1 - self.top, y2 - self.top), slice(x1 - self.left, x2 - self.left))
        return (slice(y1, y2), slice(x1, x2)), here


def cut_stencil(rng: Generator, contours: Contours, centre: tuple[float, float], radius: float) -> Stencil:
    """Turn `contours` by any angle, tilt them a little, scale them to `radius` pixels and move them to `centre`."""
    turn, tilt, along = rng.uniform(0, 2 * np.pi), rng.uniform(0.82, 1), rng.uniform(0, 2 * np.pi)
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    axis = np.array([np.cos(along), np.sin(along)])
    squeeze = np.eye(2) - (1 - tilt) * np.outer(axis, axis)
    half = int(np.ceil(radius)) + 2
    left, top = int(np.floor(centre[0])) - half, int(np.floor(centre[1])) - half
    offset = np.array([centre[0] - left, centre[1] - top]) - 0.5  # pixel centres are at whole numbers for OpenCV
    points = [radius * contour @ rotate.T @ squeeze.T + offset for contour in contours]
    canvas = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    scaled = [np.round(contour * 2**_SUBPIXEL_BITS).astype(np.int32) for contour in points]
    cv2.fillPoly(canvas, scaled, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return Stencil(np.asarray(canvas / 255, np.float32), left, top)
