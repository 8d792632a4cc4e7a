"""R-FCN's pooling against the loop of its own layer, forward and backward."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detkit.ops.pool.ps_roi_pool import ps_roi_pool

SIZE, SCALE = 3, 1 / 16


def by_loop(feature: Tensor, regions: Tensor) -> Tensor:
    """The layer, cell by cell: its corners are pixels of the region, the far one included."""
    height, width = feature.shape[2:]
    channels = feature.shape[1] // SIZE**2
    pooled = feature.new_zeros(len(regions), channels, SIZE, SIZE)
    for r, (image, x1, y1, x2, y2) in enumerate(regions.tolist()):
        left, top = math.floor(x1 + 0.5) * SCALE, math.floor(y1 + 0.5) * SCALE
        right, bottom = (math.floor(x2 - 1 + 0.5) + 1) * SCALE, (math.floor(y2 - 1 + 0.5) + 1) * SCALE
        cell_width, cell_height = max(right - left, 0.1) / SIZE, max(bottom - top, 0.1) / SIZE
        for row in range(SIZE):
            first_row = min(max(math.floor(top + row * cell_height), 0), height)
            last_row = min(max(math.ceil(top + (row + 1) * cell_height), 0), height)
            for column in range(SIZE):
                first = min(max(math.floor(left + column * cell_width), 0), width)
                last = min(max(math.ceil(left + (column + 1) * cell_width), 0), width)
                for channel in range(channels):
                    own = feature[int(image), (channel * SIZE + row) * SIZE + column]
                    cells = own[first_row:last_row, first:last]
                    if cells.numel():
                        pooled[r, channel, row, column] = cells.mean()
    return pooled


def regions(count: int, generator: torch.Generator) -> Tensor:
    """Of two images of 300 x 200 pixels, with corners at fractions of a pixel, some beyond the picture."""
    image = torch.randint(2, (count, 1), generator=generator).float()
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([300.0, 200.0]) - 10
    side = torch.rand(count, 2, generator=generator) ** 3 * 250
    return torch.cat([image, corner, corner + side], dim=1)


@pytest.fixture(params=["by pixels", "by the integral image"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a CPU, and of a GPU or a graph that is written."""
    if request.param != "by pixels":
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)


@pytest.mark.parametrize("seed", range(3))
def test_every_cell_is_the_mean_that_the_layer_takes_forward_and_backward(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    feature = torch.randn(2, 2 * SIZE**2, 13, 19, generator=generator, requires_grad=True)
    boxes = regions(60, generator)
    weights = torch.randn(60, 2, SIZE, SIZE, generator=generator)
    got, expected = ps_roi_pool(feature, boxes, SIZE, SCALE), by_loop(feature, boxes)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)
    [own] = torch.autograd.grad((got * weights).sum(), feature)
    [loop] = torch.autograd.grad((expected * weights).sum(), feature)
    torch.testing.assert_close(own, loop, atol=1e-6, rtol=1e-5)


def test_a_region_is_rounded_to_pixels_and_not_to_cells_of_the_map() -> None:
    feature = torch.arange(20.0).expand(1, SIZE**2, 10, 20)  # a cell's value is its column
    # 3 cells from 8 px on: 0.5..4.5, so the cells are 0.5..1.83, 1.83..3.17, 3.17..4.5, rounded outwards
    [[[row, *_]]] = ps_roi_pool(feature, torch.tensor([[0, 8.0, 0, 72, 160]]), SIZE, SCALE)
    assert row.tolist() == [0.5, 2.0, 3.5]


def test_no_regions_give_no_cells_and_a_gradient_of_zero() -> None:
    feature = torch.randn(2, SIZE**2, 4, 4, requires_grad=True)
    pooled = ps_roi_pool(feature, torch.zeros(0, 5), SIZE, SCALE)
    assert pooled.shape == (0, 1, SIZE, SIZE)
    pooled.sum().backward()
    assert feature.grad is not None and not feature.grad.any()
