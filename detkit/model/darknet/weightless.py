"""The layers of Darknet without weights: pooling, concatenation and rearrangement of maps [B, C, H, W]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.model.darknet.activation import ACTIVATIONS


class MaxPool(nn.Module):
    """Max pooling over size x size windows.

    stride: (vertical, horizontal). padding: rows in all, half of them (rounded down) above, the rest below, and so
    with columns: of size 2 and stride 1 the window reaches beyond the right and lower border.
    """

    def __init__(self, *, size: int, stride: tuple[int, int], padding: int) -> None:
        super().__init__()
        self.size = size
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        before = self.padding // 2
        after = self.padding - before
        if before == after <= self.size // 2:
            return F.max_pool2d(x, self.size, self.stride, before)
        if self.stride == (2, 2) and before <= min(self.size // 2, self.size - 2):
            # one row more below than above is a last window that is cut off, and the map is not copied
            return F.max_pool2d(x, self.size, self.stride, before, ceil_mode=True)
        return F.max_pool2d(F.pad(x, (before, after, before, after), value=float("-inf")), self.size, self.stride)


class AvgPool(nn.Module):
    """Global average pooling: [B, C, H, W] -> [B, C, 1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


class Route(nn.Module):
    """Concatenate maps along their channels, of each the group `group_id` of `groups`."""

    def __init__(self, *, groups: int, group_id: int) -> None:
        super().__init__()
        self.groups = groups
        self.group_id = group_id

    def forward(self, *maps: Tensor) -> Tensor:
        parts = [one.chunk(self.groups, dim=1)[self.group_id] for one in maps]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class Shortcut(nn.Module):
    """Add maps: activation(alpha * x + beta * others), of x's shape.

    If another map has other channels, the first ones they share are added; if it is larger, every n-th place of it; if
    it is smaller, it is added to every n-th place of x.
    """

    def __init__(self, *, alpha: float, beta: float, activation: str) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        total = x if self.alpha == 1 else self.alpha * x
        for other in others:
            other = other if self.beta == 1 else self.beta * other
            total = total + other if other.shape == x.shape else _add_where_shared(total, other)
        return self.activation(total)


def _add_where_shared(x: Tensor, other: Tensor) -> Tensor:
    channels = min(x.shape[1], other.shape[1])
    rows, columns = min(x.shape[2], other.shape[2]), min(x.shape[3], other.shape[3])
    stride = max(1, other.shape[3] // x.shape[3])
    sample = max(1, x.shape[3] // other.shape[3])
    total = x.clone()
    total[:, :channels, : rows * sample : sample, : columns * sample : sample] += other[
        :, :channels, : rows * stride : stride, : columns * stride : stride
    ]
    return total


class Upsample(nn.Module):
    """Upsample by nearest neighbour times `scale`; reverse: sum each square of `stride` x `stride`."""

    def __init__(self, *, stride: int, scale: float, reverse: bool) -> None:
        super().__init__()
        self.stride = stride
        self.scale = scale
        self.reverse = reverse

    def forward(self, x: Tensor) -> Tensor:
        if self.reverse:
            return self.scale * self.stride**2 * F.avg_pool2d(x, self.stride)
        larger = F.interpolate(x, scale_factor=float(self.stride), mode="nearest")
        return larger if self.scale == 1 else self.scale * larger


class Reorg(nn.Module):
    """Stack squares of stride x stride cells as channels, in the order that Darknet's weights expect.

    That order is not space-to-depth: the numbers of a map [C, H, W] are first read as [C / s^2, H * s, W * s], that is
    taken apart, and the result is read as [C * s^2, H / s, W / s]. reverse: channels become squares, [C, H, W] ->
    [C / s^2, H * s, W * s], without rereading.
    """

    def __init__(self, *, stride: int, reverse: bool) -> None:
        super().__init__()
        self.stride = stride
        self.reverse = reverse

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        s = self.stride
        fewer = channels // s**2
        if self.reverse:
            squares = x.reshape(batch, s, s, fewer, height, width)
            return squares.permute(0, 3, 4, 1, 5, 2).reshape(batch, fewer, height * s, width * s)
        reread = x.reshape(batch, fewer, height, s, width, s)
        return reread.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * s**2, height // s, width // s)


class SpaceToDepth(nn.Module):
    """Stack squares of stride x stride cells as channels: [B, C, H, W] -> [B, C * s^2, H / s, W / s].

    All channels of the upper left cells of the squares come first, then those of the cells to their right, and so on.
    """

    def __init__(self, *, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        s = self.stride
        squares = x.reshape(batch, channels, height // s, s, width // s, s)
        return squares.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * s**2, height // s, width // s)


class Product(nn.Module):
    """Multiply maps: activation(x * other), of other's shape; x varies over cells, over channels, or over both."""

    def __init__(self, *, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.activation(x * other)


class Centre(nn.Module):
    """Map pixels of 0..1 to -1..1, as a [crop] section does in a test if nothing is cut off."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


class Softmax(nn.Module):
    """Softmax over the whole map, or over each of `groups` equal runs of its numbers."""

    def __init__(self, *, groups: int, temperature: float) -> None:
        super().__init__()
        self.groups = groups
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        runs = x.reshape(len(x), self.groups, -1) / self.temperature
        return torch.softmax(runs, dim=2).reshape(x.shape)
