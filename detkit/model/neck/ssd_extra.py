"""SSD's extra layers: coarser maps by further convolutions, each from the one before (section 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec
from detkit.model.dense import normal_init


class _Extra(nn.Module):
    """Append to the maps those of `layers`, each computed from the one before."""

    layers: nn.ModuleList
    features: list[FeatureSpec]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        maps = list(features)
        for index, layer in enumerate(self.layers):
            try:
                maps.append(layer(maps[-1]))
            except RuntimeError as error:
                height, width = maps[-1].shape[-2:]
                if min(height, width) > 3:  # wider than any kernel here: another fault
                    raise
                raise UserError(
                    f"model.neck (SSDExtra): layer {index} of {len(self.layers)} finds no room on a map of {height} "
                    f"x {width} "
                    "cells: the images are too small for it; take a larger preprocess, or model/neck=ssdlite_extra"
                ) from error
        return maps


class SSDExtra(_Extra):
    """SSD's extra layers: 1x1 convolution to fewer channels, then one that shrinks the map.

    layers: per new map `squeeze` and `channels`, and `kernel`, `stride` and `padding` of the second convolution.
    """

    def __init__(self, *, features: Sequence[FeatureSpec], layers: Sequence[Mapping[str, int]]) -> None:
        super().__init__()
        self.features = list(features)
        self.layers = nn.ModuleList()
        for layer in layers:
            channels, stride = self.features[-1]
            self.layers.append(
                nn.Sequential(
                    nn.Conv2d(channels, layer["squeeze"], 1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(
                        layer["squeeze"],
                        layer["channels"],
                        layer["kernel"],
                        stride=layer["stride"],
                        padding=layer["padding"],
                    ),
                    nn.ReLU(inplace=True),
                )
            )
            self.features.append(FeatureSpec(layer["channels"], stride * layer["stride"]))
        for module in self.layers.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)


class SSDLiteExtra(_Extra):
    """SSDLite's extra layers (MobileNetV2, section 6.2).

    1x1 to half the channels, 3x3 depthwise with stride 2, 1x1. channels: per new map.
    """

    def __init__(self, *, features: Sequence[FeatureSpec], channels: Sequence[int]) -> None:
        super().__init__()
        self.features = list(features)
        self.layers = nn.ModuleList()
        for width in channels:
            inside, stride = self.features[-1]
            self.layers.append(
                nn.Sequential(
                    conv_norm(inside, width // 2, 1), depthwise(width // 2, stride=2), conv_norm(width // 2, width, 1)
                )
            )
            self.features.append(FeatureSpec(width, stride * 2))
        normal_init(self, std=0.03)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that normalises one value per channel by the running statistics.

    The coarsest map of a pyramid is such a map, and the last batch of an epoch may be one image.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == self.num_features:  # one value per channel has no variance
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def conv_norm(in_channels: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Build convolution, batch norm and ReLU6, with the norm's settings in MobileNet detectors."""
    layers: nn.Sequential = Conv2dNormActivation(
        in_channels,
        channels,
        kernel,
        stride,
        groups=groups,
        norm_layer=lambda width: BatchNorm(width, eps=0.001, momentum=0.03),
        activation_layer=nn.ReLU6,
    )
    return layers


def depthwise(channels: int, *, stride: int = 1) -> nn.Sequential:
    """Build a 3x3 depthwise convolution, batch norm and ReLU6."""
    return conv_norm(channels, channels, 3, stride=stride, groups=channels)
