"""SSD's zoom-out and crops by their properties, and its whole augmentation."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torchvision.ops import box_iou

from detkit.data.augment.ssd_crop import IoUCrop, ZoomCrop, ZoomOut, fits
from detkit.data.augment.transform import Augment

HEIGHT, WIDTH = 60, 80
BOXES = np.array([[5, 5, 25, 20], [40, 20, 75, 55]], np.float32)


def marked(boxes: np.ndarray = BOXES) -> tuple[np.ndarray, dict[str, Any]]:
    """An image whose objects alone are bright, each in its own grey, and its target."""
    image = np.full((HEIGHT, WIDTH, 3), 10, np.uint8)
    for index, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        image[y1:y2, x1:x2] = 100 + 50 * index
    count = len(boxes)
    return image, {"boxes": boxes, "labels": np.arange(count), "difficult": np.zeros(count, bool)}


def assert_in_place(image: np.ndarray, result: dict[str, Any]) -> None:
    """Every box surrounds the pixels of its object, and no others are bright."""
    for box, label in zip(result["boxes"], result["labels"], strict=True):
        rows, columns = np.nonzero(image[:, :, 0] == 100 + 50 * label)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, found, atol=1e-2)


def test_zoom_out_keeps_every_object_and_fills_the_rest() -> None:
    image, target = marked()
    augment = Augment(transforms=[ZoomOut(max_ratio=4, fill=(1, 2, 3), p=1)], min_visibility=0)
    sizes = []
    for seed in range(30):
        large, result = augment(image, target, seed)
        assert result["labels"].tolist() == [0, 1]
        assert_in_place(large, result)
        outside = (large == [1, 2, 3]).all(axis=2).sum()
        assert outside == large.shape[0] * large.shape[1] - HEIGHT * WIDTH
        sizes.append(large.shape[1] / WIDTH)
    assert min(sizes) >= 1 and max(sizes) <= 4 and max(sizes) > 2.5


@pytest.mark.parametrize("min_iou", [0.0, 0.3, 0.5])
def test_a_part_has_the_overlap_and_keeps_what_is_centred_in_it(min_iou: float) -> None:
    crop = IoUCrop(min_ious=[min_iou])
    image, target = marked()
    shares = target["boxes"] / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    augment = Augment(transforms=[crop], min_visibility=0, min_size=1)
    windows = set()
    for seed in range(60):
        part, result = augment(image, target, seed)
        assert len(result["labels"]) >= 1
        assert_in_place(part, result)
        assert 0.3 * 0.49 <= part.shape[0] / HEIGHT <= 1 and 0.3 * 0.49 <= part.shape[1] / WIDTH <= 1
        window = crop.get_params_dependent_on_data({"shape": image.shape}, {"bboxes": shares})["window"]
        iou = box_iou(torch.tensor([window]).float(), torch.tensor(BOXES)).max()
        assert window == (0, 0, WIDTH, HEIGHT) or iou >= min_iou - 1e-6
        windows.add(window)
    assert len(windows) > 20 and (0, 0, WIDTH, HEIGHT) in windows


def test_fits_by_hand() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    assert fits(box, (0, 0, 10, 20), 0.5) and not fits(box, (0, 0, 10, 20), 0.51)
    assert not fits(box, (6, 6, 30, 30), 0.0)  # its centre is outside
    assert fits(np.zeros((0, 4)), (0, 0, 1, 1), 0.9)


def test_an_object_whose_centre_is_outside_is_gone_even_if_most_visible() -> None:
    image, target = marked(np.array([[0, 0, 60, 60], [70, 20, 80, 40]], np.float32))
    crop = IoUCrop()
    boxes = np.column_stack([target["boxes"] / [WIDTH, HEIGHT, WIDTH, HEIGHT], [7, 8]])
    kept = crop.apply_to_bboxes(boxes, window=(31, 0, 80, 60), shape=image.shape)
    assert kept[:, 4].tolist() == [8]
    np.testing.assert_allclose(kept[0, :4] * [49, 60, 49, 60], [39, 20, 49, 40])


def drawn(transform: ZoomCrop, shape: tuple[int, ...], boxes: np.ndarray, seed: int) -> dict[str, Any]:
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return transform.get_params_dependent_on_data({"shape": shape}, {"bboxes": boxes})


def by_canvas(image: np.ndarray, window: tuple[int, ...], fill: tuple[int, ...], size: Any, filter: int) -> np.ndarray:
    """What `ZoomCrop` gives, with a canvas large enough for every window."""
    margin = 4 * max(image.shape)
    canvas = np.empty((image.shape[0] + 2 * margin, image.shape[1] + 2 * margin, 3), np.uint8)
    canvas[:] = fill
    canvas[margin : margin + image.shape[0], margin : margin + image.shape[1]] = image
    x1, y1, x2, y2 = (edge + margin for edge in window)
    return cv2.resize(canvas[y1:y2, x1:x2], size, interpolation=filter)


def test_zoom_and_crop_in_one_is_one_after_the_other() -> None:
    """To a pixel of the result, by which the border of the image may be off; where there is none, to the bit."""
    image, _ = marked()
    image = cv2.GaussianBlur(image, (0, 0), 4)
    fill = (10, 10, 10)
    transform = ZoomCrop(height=96, width=128, fill=fill)
    shares = BOXES / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    inside, larger = 0, 0
    for seed in range(60):
        params = drawn(transform, image.shape, shares, seed)
        found = transform.apply(image, **params).astype(int)
        expected = by_canvas(image, params["window"], fill, (128, 96), params["interpolation"]).astype(int)
        x1, y1, x2, y2 = params["window"]
        if x1 >= 0 and y1 >= 0 and x2 <= WIDTH and y2 <= HEIGHT:
            inside += 1
            assert (found == expected).all()
        else:
            larger += 1
            assert np.abs(found - expected).mean() < 3
        boxes = transform.apply_to_bboxes(np.column_stack([shares, [0, 1]]), shape=image.shape, **params)
        kept = BOXES[boxes[:, 4].astype(int)]
        plain = (kept - [x1, y1, x1, y1]) / [x2 - x1, y2 - y1, x2 - x1, y2 - y1]
        assert np.abs((boxes[:, :4] - plain.clip(0, 1)) * [128, 96, 128, 96]).max() <= 1
    assert inside > 10 and larger > 10


def test_zoom_and_crop_in_one_keeps_boxes_on_their_pixels() -> None:
    image, _ = marked()
    transform = ZoomCrop(height=96, width=128, zoom=1, fill=(1, 2, 3))
    shares = np.column_stack([BOXES / [WIDTH, HEIGHT, WIDTH, HEIGHT], [0, 1]])
    for seed in range(60):
        params = drawn(transform, image.shape, shares, seed) | {"interpolation": cv2.INTER_NEAREST}
        result = transform.apply(image, **params)
        boxes = transform.apply_to_bboxes(shares, shape=image.shape, **params)
        assert len(boxes) >= 1
        for x1, y1, x2, y2, label in boxes * [128, 96, 128, 96, 1]:
            rows, columns = np.nonzero(result[:, :, 0] == 100 + 50 * label)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose([x1, y1, x2, y2], edges, atol=1.01)


def test_a_large_picture_is_not_laid_on_a_larger_canvas() -> None:
    image = np.zeros((1500, 2000, 3), np.uint8)
    transform = ZoomCrop(height=300, width=300, zoom=1, min_ious=[])
    for seed in range(5):
        params = drawn(transform, image.shape, np.zeros((0, 5)), seed)
        tracemalloc.start()
        result = transform.apply(image, **params)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * result.nbytes < image.nbytes / 8


def test_a_window_beside_the_picture_is_all_fill() -> None:
    transform = ZoomCrop(height=30, width=40, fill=(1, 2, 3))
    params: dict[str, Any] = {"window": (-50, -50, -10, -5), "interpolation": cv2.INTER_LINEAR}
    assert (transform.apply(np.zeros((20, 20, 3), np.uint8), **params) == [1, 2, 3]).all()
    sliver = transform.apply(np.zeros((20, 20, 3), np.uint8), **params | {"window": (-4000, 0, 1, 20)})
    assert (sliver[:, -1] == 0).all() and (sliver[:, :-1] == [1, 2, 3]).all()


@pytest.mark.parametrize("boxes", [BOXES, np.zeros((0, 4), np.float32)])
def test_the_whole_augmentation_gives_the_size_of_the_model(compose_train: Callable, boxes: np.ndarray) -> None:
    config = compose_train("model=ssd300", "augment=ssd")
    augment = instantiate(config.augment)
    image, target = marked(boxes)
    image = np.random.default_rng(0).integers(0, 255, image.shape, dtype=np.uint8)
    for seed in range(25):
        changed, result = augment(image, target, seed)
        assert changed.shape == (300, 300, 3) and changed.dtype == np.uint8
        assert (result["boxes"] >= 0).all() and (result["boxes"] <= 300).all()
        assert len(result["boxes"]) == len(result["labels"]) <= len(boxes)
        again = augment(image, target, seed)
        np.testing.assert_array_equal(changed, again[0])
