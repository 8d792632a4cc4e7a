"""Darknet's activations by their names in a `.cfg`; elementwise unless they say otherwise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.1."""
    return F.leaky_relu(x, 0.1)


def relie(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.01."""
    return F.leaky_relu(x, 0.01)


def ramp(x: Tensor) -> Tensor:
    """ReLU plus x / 10."""
    return F.relu(x) + 0.1 * x


def loggy(x: Tensor) -> Tensor:
    """Logistic function scaled to -1..1."""
    return 2 * torch.sigmoid(x) - 1


def plse(x: Tensor) -> Tensor:
    """Piecewise linear logistic function."""
    middle = 0.125 * x + 0.5
    return torch.where(x < -4, 0.01 * (x + 4), torch.where(x > 4, 0.01 * (x - 4) + 1, middle))


def stair(x: Tensor) -> Tensor:
    """Steps of height one, two wide, with slopes between."""
    floor = x.floor()
    half = (x / 2).floor()
    return torch.where(floor % 2 == 0, half, x - floor + half)


def lhtan(x: Tensor) -> Tensor:
    """Identity inside 0..1, slope 0.001 beyond."""
    return torch.where(x < 0, 0.001 * x, torch.where(x > 1, 0.001 * (x - 1) + 1, x))


def hard_mish(x: Tensor) -> Tensor:
    """Identity above zero, a parabola from -2 to zero, zero below."""
    return torch.where(x > 0, x, torch.where(x > -2, x * x / 2 + x, torch.zeros_like(x)))


def normalize_channels(x: Tensor) -> Tensor:
    """ReLU divided by its sum over the channels of each cell."""
    positive = F.relu(x)
    return positive / (positive.sum(dim=1, keepdim=True) + 1e-4)


def normalize_channels_softmax(x: Tensor) -> Tensor:
    """Softmax over the channels of each cell."""
    return torch.softmax(x, dim=1)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "logistic": torch.sigmoid,
    "loggy": loggy,
    "relu": F.relu,
    "relu6": F.relu6,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "relie": relie,
    "plse": plse,
    "hardtan": F.hardtanh,
    "lhtan": lhtan,
    "ramp": ramp,
    "leaky": leaky,
    "revleaky": leaky,  # the two differ in the gradient that Darknet hands back
    "tanh": torch.tanh,
    "stair": stair,
    "swish": F.silu,
    "mish": F.mish,
    "hard_mish": hard_mish,
    "normalize_channels": normalize_channels,
    "normalize_channels_softmax": normalize_channels_softmax,
    "normalize_channels_softmax_maxval": normalize_channels_softmax,
}
