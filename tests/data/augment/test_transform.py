from __future__ import annotations

from typing import Any

import albumentations
import numpy as np
import pytest

from detkit.core.errors import UserError
from detkit.data.augment.transform import Augment

HEIGHT, WIDTH = 48, 64


def example(num_boxes: int = 3, num_proposals: int = 5) -> tuple[np.ndarray, dict[str, Any]]:
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)

    def boxes(count: int) -> np.ndarray:
        corners = generator.uniform(0, 1, (count, 2, 2)) * [WIDTH - 8, HEIGHT - 8]
        return np.concatenate([corners.min(axis=1), corners.max(axis=1) + 8], axis=1).astype(np.float32)

    target = {
        "boxes": boxes(num_boxes),
        "labels": np.arange(num_boxes, dtype=np.int64),
        "difficult": np.arange(num_boxes) % 2 == 1,
        "proposals": boxes(num_proposals),
    }
    return image, target


def test_no_transform_changes_nothing() -> None:
    image, target = example()
    for transforms in ([], [albumentations.NoOp()]):
        changed, result = Augment(transforms=transforms)(image, target, seed=0)
        np.testing.assert_array_equal(changed, image)
        for key in target:
            np.testing.assert_allclose(result[key], target[key], atol=1e-3)
            assert result[key].dtype == target[key].dtype


def test_flip_is_half_open_and_its_own_inverse() -> None:
    image, target = example()
    flip = Augment(transforms=[albumentations.HorizontalFlip(p=1)])
    once = flip(image, target, seed=0)
    for key in ("boxes", "proposals"):
        expected = np.stack(
            [WIDTH - target[key][:, 2], target[key][:, 1], WIDTH - target[key][:, 0], target[key][:, 3]], axis=1
        )
        np.testing.assert_allclose(once[1][key], expected, atol=1e-3)
    again = flip(*once, seed=0)
    np.testing.assert_array_equal(again[0], image)
    np.testing.assert_allclose(again[1]["boxes"], target["boxes"], atol=1e-3)


def test_columns_follow_their_boxes() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    target = {
        "boxes": np.array([[0, 0, 8, 8], [22, 22, 38, 38], [1, 25, 39, 39]], np.float32),
        "labels": np.array([5, 6, 7]),
        "difficult": np.array([False, True, False]),
    }
    crop = albumentations.Crop(x_min=20, y_min=20, x_max=40, y_max=40)
    _, result = Augment(transforms=[crop], min_visibility=0.6)(image, target, seed=0)
    assert result["labels"].tolist() == [6]  # the first is outside, half of the third is
    assert result["difficult"].tolist() == [True]
    np.testing.assert_allclose(result["boxes"], [[2, 2, 18, 18]], atol=1e-3)
    _, result = Augment(transforms=[crop], min_visibility=0.4)(image, target, seed=0)
    assert result["labels"].tolist() == [6, 7]


def test_min_size() -> None:
    image, target = example(0)
    target["boxes"] = np.array([[0, 0, 1.5, 20], [0, 0, 2.5, 20]], np.float32)
    target["labels"], target["difficult"] = np.array([0, 1]), np.zeros(2, bool)
    _, result = Augment(transforms=[albumentations.HorizontalFlip(p=1)])(image, target, seed=0)
    assert result["labels"].tolist() == [1]


def test_same_seed_same_result_whatever_came_before() -> None:
    image, target = example()
    transforms = [
        albumentations.RandomCropFromBorders(p=0.5),
        albumentations.ColorJitter(p=0.5),
        albumentations.OneOf([albumentations.VerticalFlip(), albumentations.Transpose()], p=0.5),
    ]
    one, two = Augment(transforms=transforms), Augment(transforms=transforms)
    first = [one(image, target, seed) for seed in range(20)]
    for seed in reversed(range(20)):
        changed, result = two(image, target, seed)
        np.testing.assert_array_equal(changed, first[seed][0])
        np.testing.assert_array_equal(result["boxes"], first[seed][1]["boxes"])


def test_transforms_decide_independently() -> None:
    image, target = example()
    both = Augment(transforms=[albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)])
    mirrored = {"as it was": image, "left-right": image[:, ::-1], "upside down": image[::-1], "both": image[::-1, ::-1]}
    seen = set()
    for seed in range(60):
        changed, _ = both(image, target, seed)
        seen.update(name for name, expected in mirrored.items() if np.array_equal(changed, expected))
    assert seen == set(mirrored)


@pytest.mark.parametrize("transform", [
    albumentations.BBoxSafeRandomCrop(p=1), albumentations.RandomSizedBBoxSafeCrop(20, 30, p=1),
    albumentations.Affine(scale=(0.5, 1.5), rotate=(-20, 20), p=1), albumentations.RandomCropFromBorders(p=1),
    albumentations.ToGray(p=1),
], ids=lambda transform: type(transform).__name__)  # fmt: skip
def test_images_without_boxes(transform: Any) -> None:
    image, target = example(0, 0)
    changed, result = Augment(transforms=[transform])(image, target, seed=3)
    assert changed.flags.c_contiguous
    assert result["boxes"].shape == result["proposals"].shape == (0, 4)
    assert result["labels"].shape == result["difficult"].shape == (0,)
    assert result["labels"].dtype == np.int64
    assert result["boxes"].dtype == np.float32


@pytest.mark.filterwarnings("ignore:Argument")
def test_a_mistyped_argument_is_an_error() -> None:
    with pytest.raises(UserError, match="'prob' are not valid for transform HorizontalFlip"):
        Augment(transforms=[albumentations.HorizontalFlip(prob=1)])
