"""The dilated last stage of a timm model keeps the meaning of its weights."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec
from detkit.model.box_head import DilatedRes5, DilatedTimm
from detkit.model.neck.fpn import FPN


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet10t", "convnext_atto"])
def test_the_last_stage_keeps_the_resolution(name: str) -> None:
    info = timm.create_model(name, features_only=True).feature_info
    head = DilatedTimm(in_channels=info.channels()[-2], size=7, channels=8, name=name, pretrained=False).eval()
    with torch.inference_mode():
        assert head(torch.randn(2, info.channels()[-2], 9, 12)).shape == (2, 8, 9, 12)


def test_the_stages_are_those_of_the_network() -> None:
    """Cell (2i, 2j) of the dilated stage sees what cell (i, j) of the plain one does."""
    torch.manual_seed(0)
    net = timm.create_model("resnet18", features_only=True, out_indices=(3, 4)).eval()
    head = DilatedTimm(in_channels=256, size=7, channels=8, name="resnet18", pretrained=False).eval()
    head.stages[0].load_state_dict(net.layer4.state_dict())
    with torch.inference_mode():
        feature, plain = net(torch.randn(1, 3, 128, 160))
        assert torch.allclose(head.stages(feature)[..., ::2, ::2], plain, atol=1e-4)


def test_a_pyramid_takes_the_norms_it_knows() -> None:
    with pytest.raises(UserError, match=r"model\.neck\.norm=group: choose none or batch"):
        FPN(features=[FeatureSpec(8, 4)], norm="group")  # type: ignore[arg-type]


def test_a_network_that_does_not_dilate_is_named() -> None:
    with pytest.raises(UserError, match=r"model\.box_head\.name=vgg11_bn cannot be dilated"):
        DilatedTimm(in_channels=512, size=7, name="vgg11_bn", pretrained=False)


def difference_on_every_second_cell(head: nn.Module, plain: nn.Module, channels: int) -> float:
    """How far the dilated stage is from the plain one where both have a cell, away from paddings; relative."""
    feature = torch.randn(1, channels, 40, 40)
    with torch.no_grad():
        dilated, wanted = head(feature), plain(feature)
    assert dilated.shape[2:] == (40, 40) and wanted.shape[2:] == (20, 20)
    inside = slice(6, -6)
    off = dilated[:, :, ::2, ::2][:, :, inside, inside] - wanted[:, :, inside, inside]
    return float(off.norm() / wanted[:, :, inside, inside].norm())


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 256), ("resnet50", 1024), ("resnet101", 1024)])
def test_every_second_cell_of_the_dilated_stage_is_the_stage_that_was_pretrained(name: str, channels: int) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"in_channels": channels, "size": 7, "name": name, "pretrained": False}
    plain = torchvision.models.get_model(name).layer4.eval()
    for first_dilation, fits in ((1, True), (2, False)):
        head = DilatedRes5(**settings, first_dilation=first_dilation).eval()
        head.layer4.load_state_dict(plain.state_dict())
        off = difference_on_every_second_cell(head.layer4, plain, channels)
        assert off < 1e-5 if fits else off > 0.1


def test_a_dilated_stage_without_the_key_is_that_of_checkpoints_before_it() -> None:
    head = DilatedRes5(in_channels=256, size=7, name="resnet18", pretrained=False)
    assert {conv.dilation for conv in head.layer4.modules() if getattr(conv, "kernel_size", 0) == (3, 3)} == {(2, 2)}
