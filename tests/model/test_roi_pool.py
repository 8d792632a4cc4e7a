"""Region pooling against torchvision's multi-level pooler and a loop over cells."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from detkit.core.structures import FeatureSpec
from detkit.model.roi_pool import PSRoIAlign, PSRoIPool, RoIAlign, RoIPool, assign_levels

STRIDES = (4, 8, 16, 32)
SPECS = [FeatureSpec(5, stride) for stride in STRIDES]


def pyramid(batch: int = 2, size: int = 512) -> list[torch.Tensor]:
    return [torch.randn(batch, 5, size // s, size // s) for s in STRIDES]


def boxes(count: int, size: int = 512) -> torch.Tensor:
    corner = torch.rand(count, 2) * size * 0.5
    return torch.cat([corner, corner + 4 + torch.rand(count, 2) ** 3 * size * 0.5], dim=1)


def test_roi_align_on_a_pyramid_equals_torchvision() -> None:
    features, regions = pyramid(), [boxes(40), boxes(17)]
    reference = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    expected = reference(OrderedDict((str(i), f) for i, f in enumerate(features)), regions, [(512, 512)] * 2)
    pool = RoIAlign(features=[*SPECS, FeatureSpec(5, 64)], aligned=False)  # the coarsest is for the RPN alone
    got = pool([*features, torch.randn(2, 5, 8, 8)], regions)
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("convention", ["caffe", "torchvision"])
def test_roi_pool_is_the_maximum_of_each_cell(convention: Literal["caffe", "torchvision"]) -> None:
    feature, region = torch.randn(1, 3, 20, 30), torch.tensor([[35.0, 20, 280.6, 200.4]])
    got = RoIPool(features=[FeatureSpec(3, 16)], size=4, convention=convention)([feature], [region])[0]
    last = 1 if convention == "caffe" else 0  # the last pixel, or the edge after it: 17.4 or 17.5 cells, 12.4 or 12.5
    x1, y1, x2, y2 = (round((v - far * last) / 16) for v, far in zip(region[0].tolist(), (0, 0, 1, 1), strict=True))
    assert (x2, y2) == ((17, 12) if convention == "caffe" else (18, 13))
    width, height = (x2 - x1 + 1) / 4, (y2 - y1 + 1) / 4  # corners are inclusive cells (Fast R-CNN's layer)
    for row in range(4):
        for column in range(4):
            top, bottom = y1 + math.floor(row * height), y1 + math.ceil((row + 1) * height)
            left, right = x1 + math.floor(column * width), x1 + math.ceil((column + 1) * width)
            assert torch.equal(got[:, row, column], feature[0, :, top:bottom, left:right].amax(dim=(1, 2)))


def test_roi_align_is_the_mean_of_bilinear_samples() -> None:
    feature = torch.arange(12.0)[None, None, None, :] + 100 * torch.arange(10.0)[None, None, :, None]  # linear in x, y
    region = torch.tensor([[16.0, 16, 80, 64]])
    got = RoIAlign(features=[FeatureSpec(1, 8)], size=2)([feature], [region])[0, 0]
    # the map is linear, so each cell's mean is its value at the cell's centre, half a pixel off the corner grid
    centres_x, centres_y = [2 + 2 - 0.5, 2 + 6 - 0.5], [2 + 1.5 - 0.5, 2 + 4.5 - 0.5]
    expected = torch.tensor([[x + 100 * y for x in centres_x] for y in centres_y])
    assert torch.allclose(got, expected, atol=1e-3)


def test_ps_roi_pool_reads_each_cell_from_its_own_maps() -> None:
    torch.manual_seed(0)
    k, channels = 3, 2
    feature, region = torch.randn(1, channels * k * k, 20, 30), torch.tensor([[32.0, 16, 304, 192]])
    # its corners lie on the map's cells, where both conventions are one
    got = PSRoIPool(features=[FeatureSpec(18, 16)], size=k)([feature], [region])[0]
    caffe = PSRoIPool(features=[FeatureSpec(18, 16)], size=k, convention="caffe")([feature], [region])[0]
    torch.testing.assert_close(caffe, got, atol=1e-5, rtol=1e-5)
    left, top, height, width = 2, 1, 11, 17  # the region in cells of the map
    for channel in range(channels):
        for row in range(k):
            for column in range(k):
                own = feature[0, (channel * k + row) * k + column]
                rows = slice(top + math.floor(row * height / k), top + math.ceil((row + 1) * height / k))
                columns = slice(left + math.floor(column * width / k), left + math.ceil((column + 1) * width / k))
                assert torch.allclose(got[channel, row, column], own[rows, columns].mean(), atol=1e-5)


def test_ps_roi_align_reads_each_cell_from_its_own_maps_at_its_centre() -> None:
    k, stride = 3, 8
    x, y = torch.arange(30.0)[None, :], torch.arange(20.0)[:, None]
    feature = torch.stack([x + 100 * y + 10_000 * own for own in range(2 * k * k)])[None]  # linear in x and y
    left, top, width, height = 33.0, 21, 100, 70
    region = torch.tensor([[left, top, left + width, top + height]])
    got = PSRoIAlign(features=[FeatureSpec(18, stride)], size=k)([feature], [region])[0]
    for channel in range(2):
        for row in range(k):
            for column in range(k):
                # the centre of the map's first cell lies half a cell from its edge
                centre_x = (left + width * (column + 0.5) / k) / stride - 0.5
                centre_y = (top + height * (row + 0.5) / k) / stride - 0.5
                expected = centre_x + 100 * centre_y + 10_000 * ((channel * k + row) * k + column)
                assert abs(got[channel, row, column].item() - expected) < 0.05


def test_levels_follow_the_side_of_the_box() -> None:
    sides = torch.tensor([10.0, 111, 112, 223, 224, 447, 448, 5000])
    squares = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    assert assign_levels(squares, STRIDES, 224).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert assign_levels(squares[:1] * 0, STRIDES, 224).tolist() == [0]


def test_no_regions_at_all_still_reaches_every_level() -> None:
    features = [f.requires_grad_() for f in pyramid()]
    pooled = RoIAlign(features=SPECS)(features, [torch.zeros(0, 4)] * 2)
    assert pooled.shape == (0, 5, 7, 7)
    pooled.sum().backward()
    assert all(f.grad is not None for f in features)
