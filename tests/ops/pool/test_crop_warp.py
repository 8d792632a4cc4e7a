"""The crop of R-CNN, pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch

from detkit.ops.pool.crop_warp import add_context, crop_warp


def one_pixel_at_a_time(image: torch.Tensor, box: list[float], size: int, context: int) -> torch.Tensor:
    """The definition: each pixel of the crop is looked up alone, between four pixels of an image without end."""
    channels, height, width = image.shape
    edges = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        centre, half = (low + high) / 2, (high - low) / 2 * size / (size - 2 * context)
        start = round(centre - half)
        edges.append((start, max(round(centre + half), start + 1)))
    crop = torch.zeros(channels, size, size)
    for row in range(size):
        for column in range(size):
            x, y = (
                start + (index + 0.5) * (end - start) / size - 0.5
                for index, (start, end) in zip((column, row), edges, strict=True)
            )
            for j in (math.floor(y), math.floor(y) + 1):
                for i in (math.floor(x), math.floor(x) + 1):
                    if 0 <= i < width and 0 <= j < height:
                        crop[:, row, column] += image[:, j, i] * (1 - abs(x - i)) * (1 - abs(y - j))
    return crop


@pytest.mark.parametrize(("size", "context"), [(9, 0), (12, 2), (16, 5)])
def test_equals_one_pixel_at_a_time(size: int, context: int) -> None:
    torch.manual_seed(0)
    image = torch.randn(3, 23, 31)
    corner = torch.rand(20, 2) * torch.tensor([28.0, 20])
    boxes = torch.cat([corner, corner + 0.2 + torch.rand(20, 2) ** 2 * 40], dim=1)  # some reach beyond the image
    boxes = torch.cat([boxes, torch.tensor([[5.0, 5, 5, 5], [-9, -9, 90, 80], [0, 0, 31, 23]])])
    crops = crop_warp(image, boxes, size=size, context=context)
    for crop, box in zip(crops, boxes.tolist(), strict=True):
        assert torch.allclose(crop, one_pixel_at_a_time(image, box, size, context), atol=1e-4)


def test_a_box_of_the_size_of_the_crop_is_copied() -> None:
    image = torch.arange(48.0).reshape(1, 6, 8)
    (crop,) = crop_warp(image, torch.tensor([[2.0, 1, 6, 5]]), size=4, context=0)
    assert torch.allclose(crop[0], image[0, 1:5, 2:6], atol=1e-4)


def test_each_side_is_scaled_by_its_own_factor() -> None:
    image = torch.tensor([[[0.0, 10, 20, 30], [40, 50, 60, 70]]])
    (crop,) = crop_warp(image, torch.tensor([[0.0, 0, 4, 2]]), size=2, context=0)
    assert torch.allclose(crop, torch.tensor([[[5.0, 25], [45, 65]]]), atol=1e-4)  # columns halved, rows kept


def test_context_and_the_mean_beyond_the_image() -> None:
    image = torch.ones(1, 8, 8)
    box = torch.tensor([[0.0, 2, 4, 6]])
    assert add_context(box, size=8, context=2).tolist() == [[-2, 0, 6, 8]]
    (crop,) = crop_warp(image, box, size=8, context=2)
    assert torch.allclose(crop[0, :, :2], torch.zeros(8, 2), atol=1e-4)
    assert torch.allclose(crop[0, :, 2:], torch.ones(8, 6), atol=1e-4)


def test_no_boxes() -> None:
    assert crop_warp(torch.zeros(3, 5, 5), torch.zeros(0, 4), size=4, context=1).shape == (0, 3, 4, 4)
