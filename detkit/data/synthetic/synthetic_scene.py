"""Draw a synthetic scene: textured ground, shaded occluding shapes, clutter, light and sensor noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from detkit.core.structures import Size
from detkit.data.synthetic.synthetic_shape import CLUTTER, SHAPES, Stencil, cut_stencil

CLASSES = tuple(sorted(SHAPES))
EMPTY_SHARE = 0.06  # of scenes have no object
MAX_OBJECTS = 8
MAX_CLUTTER = 6
RADIUS = (0.035, 0.23)  # of the shorter side
GONE, HARD = 0.25, 0.5  # visible share below which an object is left out, or is difficult
SMALLEST_SIDE = 6  # pixels of a box

Floats = NDArray[np.float32]


class Scene(NamedTuple):
    """image: uint8 [H, W, 3] RGB. boxes: float32 [N, 4] xyxy half-open, of the visible pixels. labels: int64 [N].

    difficult: bool [N], less than half is visible. masks: uint8 [H, W], k + 1 where object k is visible, else 0.
    """

    image: NDArray[np.uint8]
    boxes: Floats
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    masks: NDArray[np.uint8]


class Item(NamedTuple):
    """A shape in a scene; label -1 is clutter."""

    stencil: Stencil
    label: int


def draw_scene(seed: int, index: int, size: Size) -> Scene:
    """Scene `index` of the set `seed`: a pure function of its arguments. Colour says nothing about the class."""
    rng = np.random.default_rng((seed, index))
    items = _arrange(rng, size)
    owner, visible = _visibility(items, size)
    canvas = _texture(rng, size, _colour(rng), _colour(rng))
    light = rng.uniform(0, 2 * np.pi)
    for item in items:
        _paint(rng, canvas, item.stencil, light)

    objects = [number for number, item in enumerate(items) if item.label >= 0]
    masks = np.zeros(size, np.uint8)
    for place, number in enumerate(objects):
        masks[owner == number] = place + 1
    return Scene(
        image=_expose(rng, canvas),
        boxes=np.array([_box(owner == number) for number in objects], np.float32).reshape(-1, 4),
        labels=np.array([items[number].label for number in objects], np.int64),
        difficult=np.array([visible[number] < HARD for number in objects], np.bool_),
        masks=masks,
    )


def _arrange(rng: Generator, size: Size) -> list[Item]:
    """Shapes in the order they are painted, without objects that later ones hide."""
    count = 0 if rng.random() < EMPTY_SHARE else int(rng.integers(1, MAX_OBJECTS + 1))
    labels = [*rng.integers(0, len(CLASSES), count).tolist(), *[-1] * int(rng.integers(0, MAX_CLUTTER + 1))]
    items = []
    for label in rng.permutation(labels).astype(int).tolist():
        radius = min(size) * float(np.exp(rng.uniform(*np.log(RADIUS))))
        centre = (rng.uniform(0, size[1]), rng.uniform(0, size[0]))
        shape = SHAPES[CLASSES[label]] if label >= 0 else CLUTTER[int(rng.integers(len(CLUTTER)))]
        items.append(Item(cut_stencil(rng, shape(rng), centre, radius), label))
    while True:
        owner, visible = _visibility(items, size)
        sound = [
            item.label < 0 or (share >= GONE and _shorter_side(owner == number) >= SMALLEST_SIDE)
            for number, (item, share) in enumerate(zip(items, visible, strict=True))
        ]
        if all(sound):
            return items
        items = [item for item, keep in zip(items, sound, strict=True) if keep]  # what they hid may show now


def _visibility(items: Sequence[Item], size: Size) -> tuple[NDArray[np.int64], list[float]]:
    """[H, W] the number of the item seen at each pixel or -1, and each item's visible share, border included."""
    owner = np.full(size, -1, np.int64)
    for number, (stencil, _) in enumerate(items):
        overlap = stencil.inside(size)
        if overlap is not None:
            there, here = overlap
            owner[there][stencil.covers[here]] = number
    seen = np.bincount(owner[owner >= 0], minlength=len(items))
    return owner, [float(seen[k] / max(1, item.stencil.covers.sum())) for k, item in enumerate(items)]


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def _shorter_side(mask: NDArray[np.bool_]) -> int:
    if not mask.any():
        return 0
    x1, y1, x2, y2 = _box(mask)
    return min(x2 - x1, y2 - y1)


def _paint(rng: Generator, image: Floats, stencil: Stencil, light: float) -> None:
    """Put one shape on the image, in place: its shadow, its texture, its shading, sometimes a line around it."""
    size = image.shape[0], image.shape[1]
    radius = stencil.alpha.shape[0] / 2
    towards = np.array([np.cos(light), np.sin(light)])
    if rng.random() < 0.7:
        shift = np.round(-towards * radius * rng.uniform(0.08, 0.25)).astype(int)
        soft = cv2.GaussianBlur(stencil.alpha, (0, 0), 0.5 + 0.08 * radius)
        shadow = Stencil(np.asarray(soft, np.float32), stencil.left + int(shift[0]), stencil.top + int(shift[1]))
        overlap = shadow.inside(size)
        if overlap is not None:
            there, here = overlap
            image[there] *= 1 - rng.uniform(0.3, 0.6) * shadow.alpha[here][..., None]
    overlap = stencil.inside(size)
    if overlap is None:
        return
    there, here = overlap
    alpha = stencil.alpha[here][..., None]
    ground = (image[there] * alpha).sum(axis=(0, 1)) / max(1.0, float(alpha.sum()))
    colour = _colour(rng, unlike=ground)
    fill = _texture(rng, (stencil.alpha.shape[0], stencil.alpha.shape[1]), colour, _near(rng, colour))
    fill *= _shading(rng, stencil.alpha, towards)[..., None]
    if rng.random() < 0.4:
        width = 1 + 2 * int(rng.integers(1, max(2, round(radius / 12)) + 1))
        rim = stencil.alpha - cv2.erode(stencil.alpha, np.ones((width, width), np.uint8))
        fill += rim[..., None] * (_colour(rng) - fill)
    image[there] += alpha * (fill[here] - image[there])


def _shading(rng: Generator, alpha: Floats, towards: NDArray[np.float64]) -> Floats:
    """[h, w] brightness of a surface lit from one side: sloped as a whole, or raised with bevelled edges."""
    height, width = alpha.shape
    if rng.random() < 0.5:
        ys, xs = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        return (1 + rng.uniform(0.15, 0.4) * (xs * towards[0] + ys * towards[1])).astype(np.float32)
    distance = cv2.distanceTransform((alpha >= 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    raised = np.minimum(distance, rng.uniform(0.15, 0.5) * height / 2)
    raised = cv2.GaussianBlur(raised, (0, 0), 0.6 + 0.02 * height)
    slope = cv2.Sobel(raised, cv2.CV_32F, 1, 0) * towards[0] + cv2.Sobel(raised, cv2.CV_32F, 0, 1) * towards[1]
    return np.asarray(1 - 0.06 * slope, np.float32)


def _texture(rng: Generator, size: Size, first: Floats, second: Floats) -> Floats:
    """[H, W, 3] two colours mixed by clouds, stripes, checks or a slope, with some clouds over all."""
    ys, xs = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    along, across = xs * np.cos(turn) + ys * np.sin(turn), ys * np.cos(turn) - xs * np.sin(turn)
    period = rng.uniform(6, 40)
    kind = int(rng.integers(4))
    if kind == 0:
        mix = _clouds(rng, size)
    elif kind == 1:
        mix = 0.5 + 0.5 * np.sin(2 * np.pi * (along + 8 * _clouds(rng, size)) / period)
    elif kind == 2:
        mix = (np.floor(along / period) + np.floor(across / period)) % 2
    else:
        mix = (along - along.min()) / max(1.0, float(np.ptp(along)))
    mix = mix[..., None] * rng.uniform(0.4, 1)
    grain = 1 + rng.uniform(0.05, 0.3) * (_clouds(rng, size)[..., None] - 0.5)
    return np.asarray((first + mix * (second - first)) * grain, np.float32)


def _clouds(rng: Generator, size: Size) -> Floats:
    """[H, W] smooth noise of several octaves, 0..1."""
    total = np.zeros(size, np.float32)
    cells = int(rng.integers(2, 6))
    for octave in range(5):
        grid = rng.random((cells * 2**octave + 1, cells * 2**octave + 1), np.float32)
        total += cv2.resize(grid, (size[1], size[0]), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    total -= total.min()
    return np.asarray(total / max(1e-6, float(total.max())), np.float32)


def _colour(rng: Generator, unlike: Floats | None = None) -> Floats:
    """Any colour, 0..1 RGB, but none that would vanish on `unlike`."""
    for _ in range(16):
        colour = rng.uniform(0.05, 0.95, 3).astype(np.float32)
        if unlike is None or np.abs(colour - unlike).sum() > 0.6:
            break
    return colour


def _near(rng: Generator, colour: Floats) -> Floats:
    return np.clip(colour + rng.uniform(-0.3, 0.3, 3), 0, 1).astype(np.float32)


def _expose(rng: Generator, image: Floats) -> NDArray[np.uint8]:
    """uint8 picture of the scene: uneven light, a lens a little out of focus, a sensor with noise."""
    height, width = image.shape[:2]
    ys, xs = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    side = rng.uniform(0, 2 * np.pi)
    light = rng.uniform(0.8, 1.1) + rng.uniform(0, 0.25) * (xs * np.cos(side) + ys * np.sin(side))
    seen = cv2.GaussianBlur(image * light[..., None].astype(np.float32), (0, 0), rng.uniform(0.3, 0.9))
    noise = rng.standard_normal(image.shape, np.float32) * np.sqrt(
        rng.uniform(0.005, 0.03) ** 2 + 0.0006 * np.clip(seen, 0, 1)
    )
    return np.clip((seen + noise) * 255, 0, 255).round().astype(np.uint8)
