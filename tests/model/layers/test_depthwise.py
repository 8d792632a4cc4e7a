"""Depthwise convolutions exchanged inside a network: same parameters, same results."""

from __future__ import annotations

import copy

import timm
import torch
from torch import nn

from detkit.model.layers.depthwise import DepthwiseConv2d, DepthwiseConv2dSame, speed_up_depthwise


def test_a_network_keeps_its_parameters_values_and_gradients() -> None:
    torch.manual_seed(0)
    net = timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=16, out_indices=(2, 4)).eval()
    other = copy.deepcopy(net)
    assert speed_up_depthwise(other) == 10  # 5 x 5: in stages of 40, 112 and 192 channels; and the dilated 3 x 3
    assert {type(m) for m in other.modules()} >= {DepthwiseConv2d, DepthwiseConv2dSame}
    other.load_state_dict(net.state_dict())
    image = torch.randn(2, 3, 70, 97)
    outputs = net(image), other(image)
    for maps in outputs:
        sum((m * torch.linspace(-1, 1, m.numel()).view_as(m)).mean() for m in maps).backward()
    for a, b in zip(*outputs, strict=True):
        torch.testing.assert_close(a, b)
    for (name, a), b in zip(net.named_parameters(), other.parameters(), strict=True):
        if a.grad is not None:
            error = (a.grad - b.grad).norm() / a.grad.norm().clamp(min=1e-6)
            assert error < 1e-3, name


def test_what_is_quick_already_or_not_depthwise_is_left_alone() -> None:
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 5, padding=2),
        nn.Conv2d(8, 8, (5, 3), padding=1, groups=8),
        nn.Conv2d(8, 16, 5, groups=8),
        nn.Conv2d(1, 1, 5),
    )
    assert speed_up_depthwise(net) == 0
