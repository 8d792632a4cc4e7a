"""Anchors against torchvision's generator and py-faster-rcnn's published table."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from detkit.ops.anchor import base_anchors, default_boxes, grid_anchors


def test_pyramid_equals_torchvision() -> None:
    sizes, strides = [(32,), (64, 90)], (8, 16)
    ratios = (0.5, 1.0, 2.0)
    images = ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)])
    maps = [torch.zeros(1, 1, 96 // s, 128 // s) for s in strides]
    expected = AnchorGenerator(tuple(sizes), (ratios,) * 2)(images, maps)[0]
    got = [
        grid_anchors(base_anchors(size, ratios, "half_extent"), m.shape[-2:], (stride, stride), offset=0)
        for size, m, stride in zip(sizes, maps, strides, strict=True)
    ]
    assert torch.equal(torch.cat(got), expected)


def test_base16_gives_the_nine_shapes_of_the_paper_code() -> None:
    # the inclusive corners [-84 -40 99 55] ... of generate_anchors.py, as width and height
    expected = [
        (184, 96),
        (368, 192),
        (736, 384),
        (128, 128),
        (256, 256),
        (512, 512),
        (88, 176),
        (176, 352),
        (352, 704),
    ]
    base = base_anchors([128, 256, 512], [0.5, 1, 2], "base16")
    assert [tuple(wh) for wh in (base[:, 2:] - base[:, :2]).tolist()] == expected
    first = grid_anchors(base, (1, 1), (16, 16))[0]
    assert first.tolist() == [-84, -40, 100, 56]


@pytest.mark.parametrize("ratio", [0.3, 1.0, 4.0])
def test_exact_anchors_keep_area_and_ratio(ratio: float) -> None:
    width, height = (base_anchors([50], [ratio])[0, 2:] * 2).tolist()
    assert width * height == pytest.approx(2500, rel=1e-5)
    assert height / width == pytest.approx(ratio, rel=1e-5)


def test_grid_is_ordered_by_row_column_anchor_and_centred() -> None:
    anchors = grid_anchors(base_anchors([4, 6], [1]), (2, 3), (10, 20)).reshape(2, 3, 2, 4)
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2
    assert centres[1, 2, 0].tolist() == centres[1, 2, 1].tolist() == [50, 15]
    assert grid_anchors(base_anchors([4], [1]), (0, 3), (8, 8)).shape == (0, 4)


def test_default_boxes_are_those_of_the_paper() -> None:
    base = default_boxes(0.2, 0.45, [2, 3])
    shapes = base[:, 2:] - base[:, :2]
    expected = [(0.2, 0.2), (0.3, 0.3), (0.2828, 0.1414), (0.1414, 0.2828), (0.3464, 0.1155), (0.1155, 0.3464)]
    assert torch.allclose(shapes, torch.tensor(expected), atol=1e-4)
    assert torch.equal(base[:, :2], -base[:, 2:])
