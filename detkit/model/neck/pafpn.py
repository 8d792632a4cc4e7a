"""Path aggregation: coarse maps enrich fine ones, then fine maps enrich coarse ones (Liu et al. 2018; YOLOX)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.structures import FeatureSpec
from detkit.model.layers.conv import Activation, conv_norm
from detkit.model.layers.csp import CSPLayer, spatial_conv


class PAFPN(nn.Module):
    """PAFPN: a top-down and a bottom-up path of CSP layers with `num_blocks` bottlenecks; a level keeps its stride.

    channels: of the map that each level gives; null: as many as it gets. depthwise: as in the backbone.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        channels: Sequence[int] | None = None,
        num_blocks: int = 1,
        depthwise: bool = False,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        widths = [feature.channels for feature in features] if channels is None else list(channels)
        conv = spatial_conv(depthwise, activation)

        def join(in_channels: int, out_channels: int) -> CSPLayer:
            return CSPLayer(
                in_channels,
                out_channels,
                num_blocks=num_blocks,
                residual=False,
                depthwise=depthwise,
                activation=activation,
            )

        self.enter, self.down = nn.ModuleList(), nn.ModuleList()  # down: by level, coarse to fine
        above = features[-1].channels
        for feature, width in zip(reversed(features[:-1]), reversed(widths[:-1]), strict=True):
            self.enter.append(conv_norm(above, width, activation=activation))
            self.down.append(join(width + feature.channels, width))
            above = width
        self.shrink, self.up = nn.ModuleList(), nn.ModuleList()  # up: by level, fine to coarse
        for below, width in pairwise(widths):
            self.shrink.append(conv(below, below, 3, 2))
            self.up.append(join(2 * below, width))
        self.features = [FeatureSpec(width, f.stride) for width, f in zip(widths, features, strict=True)]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        x, entered = features[-1], []
        for feature, enter, down in zip(reversed(features[:-1]), self.enter, self.down, strict=True):
            entered.append(enter(x))
            larger = F.interpolate(entered[-1], size=feature.shape[-2:], mode="nearest")
            x = down(torch.cat([larger, feature], dim=1))
        maps = [x]
        for side, shrink, up in zip(reversed(entered), self.shrink, self.up, strict=True):
            smaller = shrink(maps[-1])
            if smaller.shape != side.shape:  # a pooling network rounds the size of its maps down, a convolution up
                smaller = smaller[:, :, : side.shape[2], : side.shape[3]]
            maps.append(up(torch.cat([smaller, side], dim=1)))
        return maps
