"""Depthwise convolution against PyTorch's own gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from detkit.ops.depthwise import depthwise_conv2d


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("channels", "side", "stride", "padding", "dilation"),
    [
        (5, 5, 1, 2, 1),
        (300, 5, 1, 4, 2),
        (17, 3, 1, 2, 2),
        (32, 5, 2, 2, 1),
        (8, 3, 2, 0, 3),
        (4, 3, 1, 5, 1),
        (6, 1, 3, 0, 1),
    ],
)
def test_values_and_gradients_are_pytorchs(
    channels: int, side: int, stride: int, padding: int, dilation: int, threads: int
) -> None:
    torch.manual_seed(0)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    x = torch.randn(2, channels, 13, 18).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(channels, 1, side, side), torch.randn(channels)
    mine = [t.clone().requires_grad_() for t in (x, weight, bias)]
    reference = [t.double().requires_grad_() for t in (x, weight, bias)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = depthwise_conv2d(*mine, **geometry)
        expected = F.conv2d(*reference, groups=channels, **geometry)
        factor = torch.randn_like(found)
        (found * factor).sum().backward()
    finally:
        torch.set_num_threads(before)
    (expected * factor).sum().backward()
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    for a, b in zip(mine, reference, strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad.double(), b.grad, atol=2e-4, rtol=1e-4)


def test_what_is_not_finite_stays_so() -> None:
    x = torch.ones(1, 4, 6, 6)
    x[0, 1, 2, 3] = torch.inf
    weight = torch.ones(4, 1, 5, 5, requires_grad=True)
    grad = torch.ones(1, 4, 6, 6)
    grad[0, 2, 0, 0] = torch.nan
    depthwise_conv2d(x, weight, None, stride=1, padding=2, dilation=1).backward(grad)
    assert weight.grad is not None
    assert weight.grad[[0, 3]].isfinite().all()
    assert weight.grad[1].isinf().any() and weight.grad[2].isnan().any()


def test_no_gradient_is_made_that_nobody_asks_for() -> None:
    x, weight = torch.randn(1, 3, 5, 5), torch.randn(3, 1, 3, 3, requires_grad=True)
    out = depthwise_conv2d(x, weight, None, stride=1, padding=1, dilation=1)
    with torch.no_grad():
        assert torch.equal(depthwise_conv2d(x, weight, None, stride=1, padding=1, dilation=1), out)
    out.sum().backward()
    assert x.grad is None and weight.grad is not None
