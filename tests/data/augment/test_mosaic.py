from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detkit.core.errors import UserError
from detkit.data.augment.mosaic import FILL, Mosaic

COLOURS = [40, 90, 150, 200, 250]


def picture(index: int, num_objects: int = 2) -> tuple[np.ndarray, dict[str, Any]]:
    """A picture of one grey value on which objects are of that value plus 3: what moved where can be seen."""
    rng = np.random.default_rng(index)
    height, width = 60 + 20 * index, 130 - 10 * index
    image = np.full((height, width, 3), COLOURS[index], np.uint8)
    boxes = np.zeros((num_objects, 4), np.float32)
    for row in range(num_objects):
        x, y = 5 + 45 * row + rng.integers(5), 10 + rng.integers(20)
        boxes[row] = [x, y, x + 30, y + 20]
        image[y : y + 20, x : x + 30] += 3
    return image, {
        "boxes": boxes,
        "labels": np.full(num_objects, index, np.int64),
        "difficult": np.arange(num_objects) % 2 == 1,
    }


def make(seed: int, **settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
    drawn = iter(range(1, 5))
    return Mosaic(size=128, **settings)(picture(0), lambda _: picture(next(drawn)), 10, seed)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_hold_their_objects_and_nothing_else(seed: int) -> None:
    image, target = make(seed, mixup=0)
    assert image.shape == (128, 128, 3) and image.dtype == np.uint8
    assert target["boxes"].dtype == np.float32 and target["labels"].dtype == np.int64
    boxes = target["boxes"]
    assert (boxes >= 0).all() and (boxes <= 128).all() and (boxes[:, 2:] - boxes[:, :2] >= 2).all()
    for box, label in zip(boxes, target["labels"], strict=True):
        x1, y1, x2, y2 = box
        inner = image[int(np.ceil(y1 + 1)) : int(y2 - 1), int(np.ceil(x1 + 1)) : int(x2 - 1), 0]
        assert np.abs(inner.astype(int) - (COLOURS[label] + 3)).max(initial=0) <= 1


def test_all_four_meet_and_difficult_flags_stay_with_their_objects() -> None:
    image, target = make(1, mixup=0, scale=(1.2, 1.2))
    seen = {colour for colour in COLOURS if (np.abs(image[..., 0].astype(int) - colour) <= 3).any()}
    assert seen == set(COLOURS[:4])
    assert len(target["difficult"]) == len(target["labels"]) == len(target["boxes"])


def test_mixup_is_half_of_both_with_the_objects_of_both() -> None:
    with_it, without = make(5, mixup=1), make(5, mixup=0)
    assert len(with_it[1]["boxes"]) > len(without[1]["boxes"])
    np.testing.assert_array_equal(with_it[1]["boxes"][: len(without[1]["boxes"])], without[1]["boxes"])
    assert set(with_it[1]["labels"]) - set(range(4)) == {4}
    difference = 2 * with_it[0].astype(int) - without[0]
    over = np.unique(difference)
    assert over.min() >= FILL - 2 and over.max() <= COLOURS[4] + 4


def test_same_seed_same_picture() -> None:
    first, second, other = make(3), make(3), make(4)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1]["boxes"], second[1]["boxes"])
    assert not np.array_equal(first[0], other[0])


def test_pictures_without_objects() -> None:
    image, target = Mosaic(size=64, mixup=1)(picture(0, 0), lambda index: picture(index % 5, 0), 10, 0)
    assert image.shape == (64, 64, 3)
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,) and target["difficult"].dtype == bool


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0.0, 1.0)}, "multi_image.scale"),
        ({"until": 1.5}, "multi_image.until=1.5"),
        ({"mixup": -0.1}, "multi_image.mixup=-0.1"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Mosaic(size=64, **settings)
