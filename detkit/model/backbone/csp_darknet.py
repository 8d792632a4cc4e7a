"""CSPDarknet, the backbone of YOLOX (Ge et al. 2021), in any width and depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.structures import FeatureSpec
from detkit.model.backbone.pretrained import IMAGENET_MEAN, IMAGENET_STD
from detkit.model.backbone.strides import check_strides
from detkit.model.layers.conv import conv_norm
from detkit.model.layers.csp import CSPLayer, spatial_conv

CHANNELS = {4: 128, 8: 256, 16: 512, 32: 1024}  # stride -> channels at width 1
BLOCKS = {4: 3, 8: 9, 16: 9, 32: 3}  # stride -> bottlenecks at depth 1


class Focus(nn.Module):
    """Stack each 2x2 pixels as channels, then convolve 3x3: stride 2 without losing a pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_norm(12, channels, 3, activation="silu")

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        focused: Tensor = self.conv(F.pixel_unshuffle(F.pad(images, (0, width % 2, 0, height % 2)), 2))
        return focused


class SpatialPyramid(nn.Module):
    """Spatial pyramid pooling: the map beside its maxima over 5, 9 and 13 cells (He et al. 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = conv_norm(channels, channels // 2, activation="silu")
        self.leave = conv_norm(channels // 2 * 4, channels, activation="silu")

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.enter(x)]
        for _ in range(3):  # the maximum over 5 cells, three times, is that over 13
            maps.append(F.max_pool2d(maps[-1], 5, stride=1, padding=2))
        joined: Tensor = self.leave(torch.cat(maps, dim=1))
        return joined


class CSPDarknet(nn.Module):
    """CSPDarknet with maps at `strides`, of 4, 8, 16 and 32.

    width, depth: scale the channels and the bottlenecks of the largest network. depthwise: 3x3 convolutions are
    depthwise separable, as in YOLOX-Nano. Weights start random, as YOLOX's do; images come with about zero mean and
    unit variance.
    """

    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self, *, strides: Sequence[int], width: float = 0.5, depth: float = 1 / 3, depthwise: bool = False
    ) -> None:
        super().__init__()
        check_strides("CSPDarknet", strides, list(CHANNELS))
        self.strides = sorted(strides)
        conv = spatial_conv(depthwise, "silu")
        channels = int(64 * width)
        self.stem = Focus(channels)
        self.stages = nn.ModuleDict()
        for stride, full in CHANNELS.items():
            if stride > self.strides[-1]:
                break
            out, last = int(full * width), stride == max(CHANNELS)
            stage = nn.Sequential(conv(channels, out, 3, 2))
            if last:
                stage.append(SpatialPyramid(out))
            stage.append(
                CSPLayer(
                    out, out, num_blocks=max(1, round(BLOCKS[stride] * depth)), residual=not last, depthwise=depthwise
                )
            )
            self.stages[str(stride)] = stage
            channels = out
        self.features = [FeatureSpec(int(CHANNELS[stride] * width), stride) for stride in self.strides]

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = self.stem(images), []
        for stride, stage in self.stages.items():
            x = stage(x)
            if int(stride) in self.strides:
                maps.append(x)
        return maps
