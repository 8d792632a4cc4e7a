"""The building block of the YOLO networks: convolution, batch norm, activation."""

from __future__ import annotations

from typing import Literal

from torch import nn

from detkit.core.errors import UserError

Activation = Literal["leaky", "relu", "silu"]


def activation_layer(name: Activation) -> nn.Module:
    """Create the activation `name`; leaky has slope 0.1, as in Darknet. Raises UserError for an unknown one."""
    if name == "leaky":
        return nn.LeakyReLU(0.1, inplace=True)
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "silu":
        return nn.SiLU(inplace=True)
    raise UserError(f"activation={name}: choose one of leaky, relu, silu")


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: Activation = "leaky",
) -> nn.Sequential:
    """Build convolution without bias (same size, or divided by `stride`), batch norm and activation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        activation_layer(activation),
    )


def separable_conv_norm(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, *, activation: Activation = "silu"
) -> nn.Sequential:
    """Build a depthwise separable `conv_norm`: of each channel alone, then 1x1 across channels."""
    return nn.Sequential(
        conv_norm(in_channels, in_channels, kernel, stride, groups=in_channels, activation=activation),
        conv_norm(in_channels, out_channels, activation=activation),
    )
