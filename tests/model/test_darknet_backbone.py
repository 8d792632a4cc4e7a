from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detkit.core.errors import UserError
from detkit.model.backbone.darknet import Darknet
from detkit.model.backbone.darknet_file import load_convolutions
from detkit.model.layers.conv import conv_norm


@pytest.mark.parametrize(
    ("name", "convolutions", "strides", "channels"),
    [
        ("yolo_v1", 20, [32], [1024]),
        ("darknet19", 18, [16, 32], [512, 1024]),
        ("darknet53", 52, [8, 16, 32], [256, 512, 1024]),
    ],
)
def test_the_networks_of_the_papers(name: str, convolutions: int, strides: list[int], channels: list[int]) -> None:
    with torch.device("meta"):
        net = Darknet(name=name, strides=strides)
    assert sum(isinstance(layer, nn.Conv2d) for layer in net.modules()) == convolutions
    assert [tuple(feature) for feature in net.features] == list(zip(channels, strides, strict=True))


def test_maps_have_the_stride_they_are_asked_for() -> None:
    net = Darknet(name="darknet19", strides=[4, 8]).eval()
    with torch.inference_mode():
        maps = net(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape) for one in maps] == [(1, 128, 16, 24), (1, 256, 8, 12)]
    assert "16" not in net.stages


def small() -> nn.Sequential:
    return nn.Sequential(conv_norm(3, 4, 3), nn.MaxPool2d(2), conv_norm(4, 2, 1))


@pytest.mark.parametrize(("version", "seen"), [((0, 2, 0), np.int64), ((0, 1, 0), np.int32)])
def test_a_file_fills_norms_and_convolutions_in_order(tmp_path: Path, version: tuple[int, ...], seen: type) -> None:
    net = small()
    numbers = np.random.default_rng(0).uniform(0.5, 1.5, 4 * 4 + 108 + 4 * 2 + 8 + 7).astype("<f4")  # 7 belong to more
    path = tmp_path / "x.conv"
    path.write_bytes(np.array(version, "<i4").tobytes() + np.array([9], seen).tobytes() + numbers.tobytes())
    load_convolutions(net, path, "model.backbone.pretrained")
    conv, norm = net[0][0], net[0][1]
    np.testing.assert_array_equal(norm.bias.detach(), numbers[:4])
    np.testing.assert_array_equal(norm.weight.detach(), numbers[4:8])
    np.testing.assert_array_equal(norm.running_mean, numbers[8:12])
    np.testing.assert_array_equal(norm.running_var, numbers[12:16])
    np.testing.assert_array_equal(conv.weight.detach().flatten(), numbers[16:124])
    np.testing.assert_array_equal(net[2][0].weight.detach().flatten(), numbers[132:140])


def test_a_file_that_is_missing_or_short_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"key=.*nothing\.conv"):
        load_convolutions(small(), tmp_path / "nothing.conv", "key")
    (tmp_path / "short.conv").write_bytes(np.zeros(20, "<f4").tobytes())
    with pytest.raises(UserError, match=r"short\.conv holds 16 numbers where the network has 140"):
        load_convolutions(small(), tmp_path / "short.conv", "key")
