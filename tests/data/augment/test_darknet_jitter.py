"""Darknet's two ways of moving a picture, and its colours, by their properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate

from detkit.core.errors import UserError
from detkit.data.augment.darknet_jitter import AspectJitter, SideJitter
from detkit.data.augment.hsv import HSVJitter
from detkit.data.augment.transform import Augment

HEIGHT, WIDTH = 60, 100
BOXES = np.array([[5, 5, 25, 20], [40, 20, 75, 55]], np.float32)


def marked() -> tuple[np.ndarray, dict[str, Any]]:
    """An image whose objects alone are bright, each in its own grey, and its target."""
    image = np.full((HEIGHT, WIDTH, 3), 10, np.uint8)
    for index, (x1, y1, x2, y2) in enumerate(BOXES.astype(int)):
        image[y1:y2, x1:x2] = 100 + 100 * index
    return image, {"boxes": BOXES, "labels": np.arange(2), "difficult": np.zeros(2, bool)}


def run(transform: Any, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    return Augment(transforms=[transform], min_visibility=0, min_size=1)(*marked(), seed)


def test_each_side_moves_by_itself_and_boxes_stay_on_their_objects() -> None:
    sizes = set()
    for seed in range(60):
        image, result = run(SideJitter(jitter=0.3), seed)
        sizes.add(image.shape[:2])
        for box, label in zip(result["boxes"], result["labels"], strict=True):
            rows, columns = np.nonzero(image[:, :, 0] == 100 + 100 * label)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, found, atol=1e-2)
    heights, widths = (np.array(side) for side in zip(*sizes, strict=True))
    for sides, whole in ((heights, HEIGHT), (widths, WIDTH)):
        assert 0.4 * whole <= sides.min() < 0.8 * whole and 1.2 * whole < sides.max() <= 1.6 * whole
    assert np.abs(np.corrcoef(heights, widths)[0, 1]) < 0.5


def test_beyond_the_image_its_last_pixels_go_on() -> None:
    image = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint32).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)
    out = SideJitter().apply(image, window=(-7, -3, WIDTH + 2, HEIGHT + 5))
    np.testing.assert_array_equal(out, np.pad(image, ((3, 5), (7, 2), (0, 0)), mode="edge"))


def test_another_shape_is_whole_and_somewhere_in_a_square() -> None:
    ratios, corners = [], set()
    for seed in range(60):
        image, result = run(AspectJitter(jitter=0.3, fill=127), seed)
        assert image.shape == (WIDTH, WIDTH, 3) and result["labels"].tolist() == [0, 1]
        rows, columns = np.nonzero((image != 127).any(axis=2))
        size = (rows.max() + 1 - rows.min(), columns.max() + 1 - columns.min())
        assert max(size) == WIDTH
        ratios.append(size[1] / size[0])
        corners.add((int(rows.min()), int(columns.min())))
        whole = np.array([columns.min(), rows.min()] * 2)
        expected = BOXES * (np.array([size[1], size[0]] * 2) / [WIDTH, HEIGHT, WIDTH, HEIGHT]) + whole
        np.testing.assert_allclose(result["boxes"], expected, atol=1e-2)
    least, most = 0.7 / 1.3, 1.3 / 0.7
    shape = WIDTH / HEIGHT
    assert least * shape - 0.05 <= min(ratios) < 0.85 * shape and 1.15 * shape < max(ratios) <= most * shape + 0.1
    assert len(corners) > 30


def test_a_jitter_that_could_leave_nothing_is_refused() -> None:
    for kind in (SideJitter, AspectJitter):
        with pytest.raises(UserError, match=r"jitter=0\.5"):
            kind(jitter=0.5)


def test_colours_by_hand() -> None:
    def changed(colour: list[int], **settings: Any) -> list[int]:
        return HSVJitter().apply(np.array([[colour]], np.uint8), **settings)[0, 0].tolist()

    assert changed([200, 100, 50], turn=0, factors=(1, 1)) == [200, 100, 50]
    assert changed([200, 100, 50], turn=0, factors=(0, 1)) == [
        200,
        200,
        200,
    ]  # no saturation: as bright as the brightest
    assert changed([200, 100, 100], turn=0, factors=(0.5, 1)) == [200, 150, 150]
    assert changed([100, 60, 20], turn=0, factors=(1, 1.5)) == [150, 90, 30]
    assert changed([200, 0, 0], turn=120, factors=(1, 1)) == [0, 200, 0]
    assert changed([200, 0, 0], turn=-120, factors=(1, 1)) == [0, 0, 200]


def test_factors_lie_where_they_should() -> None:
    uniform = HSVJitter(saturation=(0.5, 1.5))
    even = HSVJitter(value=(1 / 1.5, 1.5), inverse=True)
    drawn = [uniform.get_params()["factors"][0] for _ in range(400)]
    assert 0.5 <= min(drawn) < 0.55 and 1.45 < max(drawn) <= 1.5
    drawn = [even.get_params()["factors"][1] for _ in range(400)]
    assert 1 / 1.5 <= min(drawn) < 0.72 and 1.4 < max(drawn) <= 1.5
    assert 140 < sum(factor > 1 for factor in drawn) < 260
    with pytest.raises(UserError, match=r"value=\[0\.5, 1\.5\]: a range of factors, 1 / high, high"):
        HSVJitter(value=(0.5, 1.5), inverse=True)


@pytest.mark.parametrize("name", ["yolo_v1", "yolo_v2", "yolo_v3"])
def test_the_papers_augmentations_repeat_and_take_empty_images(compose_train: Callable, name: str) -> None:
    augment = instantiate(compose_train(f"augment={name}").augment)
    image, target = marked()
    empty = {key: column[:0] for key, column in target.items()}
    for seed in range(10):
        (first, result), (again, same) = augment(image, target, seed), augment(image, target, seed)
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(result["boxes"], same["boxes"])
        assert first.dtype == np.uint8 and len(augment(image, empty, seed)[1]["boxes"]) == 0
