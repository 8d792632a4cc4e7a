"""Cross-stage partial (CSP) layers: half the channels go through bottlenecks, half bypass them (Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from detkit.model.layers.conv import Activation, conv_norm, separable_conv_norm

Conv = Callable[..., nn.Sequential]  # (in, out, kernel, stride) -> convolution, norm, activation


def spatial_conv(depthwise: bool, activation: Activation) -> Conv:
    """Choose a network's 3x3 convolution: full, or depthwise separable."""
    return partial(separable_conv_norm if depthwise else conv_norm, activation=activation)


class Bottleneck(nn.Module):
    """1x1 convolution, then 3x3, added to the input if `residual`."""

    def __init__(self, channels: int, *, residual: bool, conv: Conv, activation: Activation) -> None:
        super().__init__()
        self.squeeze = conv_norm(channels, channels, activation=activation)
        self.conv = conv(channels, channels, 3)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        refined: Tensor = self.conv(self.squeeze(x))
        return x + refined if self.residual else refined


class CSPLayer(nn.Module):
    """CSP layer of `num_blocks` bottlenecks: [B, in_channels, H, W] -> [B, out_channels, H, W]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_blocks: int,
        residual: bool,
        depthwise: bool = False,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        conv = spatial_conv(depthwise, activation)
        self.enter = conv_norm(in_channels, hidden, activation=activation)
        self.bypass = conv_norm(in_channels, hidden, activation=activation)
        self.blocks = nn.Sequential(
            *(Bottleneck(hidden, residual=residual, conv=conv, activation=activation) for _ in range(num_blocks))
        )
        self.leave = conv_norm(2 * hidden, out_channels, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.leave(torch.cat([self.blocks(self.enter(x)), self.bypass(x)], dim=1))
        return joined
