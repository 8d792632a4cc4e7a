"""The CPU form of RoIAlign against torchvision's kernel, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops

from detkit.ops.pool.roi_align import roi_align


def regions(count: int) -> torch.Tensor:
    """Regions of all kinds: inside, across the border, far outside, without area."""
    corner = torch.rand(count, 2) * 300 - 50
    boxes = torch.cat([corner, corner + torch.rand(count, 2) ** 2 * 200], dim=1)
    boxes[0, 2:] = boxes[0, :2]
    return torch.cat([torch.randint(0, 2, (count, 1)).float(), boxes], dim=1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "sampling_ratio"), [(7, 2), (3, 1), (2, 3)])
def test_equals_torchvision(aligned: bool, size: int, sampling_ratio: int) -> None:
    torch.manual_seed(0)
    ours = torch.randn(2, 5, 20, 26, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    boxes = regions(60)
    got = roi_align(ours, boxes, size, 1 / 8, sampling_ratio, aligned)
    expected = torchvision.ops.roi_align(theirs, boxes, size, 1 / 8, sampling_ratio, aligned)
    assert torch.allclose(got, expected, atol=1e-4)
    weight = torch.randn_like(expected)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)


def test_no_regions() -> None:
    feature = torch.randn(1, 3, 4, 4, requires_grad=True)
    pooled = roi_align(feature, torch.zeros(0, 5), 7, 0.5, 2)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert feature.grad is not None
