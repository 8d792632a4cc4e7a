"""Padding that depends on the size, where it does not."""

from __future__ import annotations

import timm
import torch

from detkit.image.preprocess import Letterbox, ShortSide, Warp
from detkit.model.layers.padding import has_whole_strides, settle_padding


def test_which_canvases_have_whole_strides() -> None:
    assert has_whole_strides(ShortSide(short=320, max=533, pad_multiple=32))
    assert not has_whole_strides(ShortSide(short=320, max=533))
    assert has_whole_strides(Letterbox(size=416)) and has_whole_strides(Warp(height=320, width=416))
    assert has_whole_strides(Warp(height=300, width=300, pad_multiple=64))
    assert not has_whole_strides(Warp(height=300, width=320))


def test_tensorflows_padding_is_a_constant_on_canvases_of_whole_strides() -> None:
    torch.manual_seed(0)
    net = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    image = torch.randn(1, 3, 96, 64)
    expected, names = net(image), list(net.state_dict())
    assert settle_padding(net) == 5  # one for each halving
    for found, wanted in zip(net(image), expected, strict=True):
        assert torch.equal(found, wanted)
    assert list(net.state_dict()) == names
