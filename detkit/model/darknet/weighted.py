"""The layers of Darknet that have weights: [convolutional], [connected] and [local].

Batch norms divide by sqrt(variance + 1e-5), as Darknet does on a GPU, where its networks are trained and published.
Its oldest CPU code divides by sqrt(variance) + 1e-6, which is no number for the slightly negative variances that some
published files hold.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.model.darknet.activation import ACTIVATIONS


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Create Darknet's batch norm, of momentum 0.01."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.01)


class Convolutional(nn.Module):
    """Convolution, batch norm or bias, activation: [B, in, H, W] -> [B, out, H', W'].

    stride, padding: (vertical, horizontal). padding is in steps of the kernel, so dilation multiplies it.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        size: int,
        stride: tuple[int, int],
        padding: int,
        dilation: int,
        groups: int,
        normalized: bool,
        activation: str,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            size,
            stride=stride,
            padding=padding * dilation,
            dilation=dilation,
            groups=groups,
            bias=not normalized,
        )
        self.norm = batch_norm(out_channels) if normalized else nn.Identity()
        self.activation = ACTIVATIONS[activation]
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class Connected(nn.Module):
    """Fully connected layer over the whole map, batch norm or bias, activation: [B, C, H, W] -> [B, out, 1, 1]."""

    def __init__(self, *, in_features: int, out_features: int, normalized: bool, activation: str) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=not normalized)
        self.norm = batch_norm(out_features) if normalized else nn.Identity()
        self.activation = ACTIVATIONS[activation]
        nn.init.kaiming_normal_(self.linear.weight, nonlinearity="relu")
        if self.linear.bias is not None:
            nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.linear(x.flatten(1))[:, :, None, None]))


class SharedConvolutional(nn.Module):
    """Convolution with the weights and the batch norm of another one, `owner`.

    stride, padding, dilation: its own, (vertical, horizontal), padding in pixels.
    """

    def __init__(
        self,
        *,
        owner: Convolutional,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        activation: str,
    ) -> None:
        super().__init__()
        self.owner = (owner,)  # no part of this layer: its weights stand in the state dict once
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self.owner[0].conv, self.owner[0].norm
        found = F.conv2d(x, conv.weight, conv.bias, self.stride, self.padding, self.dilation, conv.groups)
        return self.activation(norm(found))


class Local(nn.Module):
    """Locally connected layer, with kernels and biases of every place's own: [B, in, H, W] -> [B, out, H', W'].

    shape: (out, H', W'). weight: [H' * W', out, in * size * size]. bias: [out, H', W'].
    """

    def __init__(
        self, *, in_channels: int, shape: tuple[int, int, int], size: int, stride: int, padding: int, activation: str
    ) -> None:
        super().__init__()
        out_channels, rows, columns = shape
        self.size, self.stride, self.padding = size, stride, padding
        self.weight = nn.Parameter(torch.empty(rows * columns, out_channels, in_channels * size**2))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.activation = ACTIVATIONS[activation]
        nn.init.normal_(self.weight, std=(2 / (in_channels * size**2)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, self.size, padding=self.padding, stride=self.stride)  # [B, in * size * size, places]
        found = torch.matmul(self.weight, patches.permute(2, 1, 0)).permute(2, 1, 0)  # [B, out, places]
        return self.activation(found.reshape(len(x), *self.bias.shape) + self.bias)
