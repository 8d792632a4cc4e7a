"""Read the convolutions at the beginning of a Darknet weights file, such as darknet53.conv.74."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detkit.core.errors import UserError

LOWEST_VARIANCE = -1e-3  # some published files have slightly negative ones; of other weights many are far lower


def load_convolutions(module: nn.Module, path: str | Path, key: str) -> None:
    """Fill the convolutions of `module` and their batch norms from a file, in the order of registration: in place.

    A file holds, after a header (version: three int32; images seen: int64 from version 0.2 on, int32 before), float32
    numbers: of each convolution offset, scale, running mean and variance of its norm, then its weights. What follows in
    the file is left alone. key: the config key that named the file. Raises UserError where it cannot be read or ends
    too early.
    """
    path = Path(path).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{key}={path}: {error.strerror or error}") from error
    version = np.frombuffer(content, "<i4", count=2) if len(content) >= 20 else np.zeros(2, int)
    if not all(0 <= number < 100_000 for number in version):
        raise UserError(f"{key}={path} is no file of Darknet's: it does not begin with a version")
    header = 20 if version[0] * 10 + version[1] >= 2 else 16
    numbers = np.frombuffer(content, "<f4", offset=min(header, len(content)), count=max(0, len(content) - header) // 4)
    parts = _parts(module)
    needed = sum(part.numel() for part in parts)
    if len(numbers) < needed:
        raise UserError(f"{key}={path} holds {len(numbers)} numbers where the network has {needed}")
    start = 0
    with torch.no_grad():
        for part in parts:
            values = numbers[start : start + part.numel()].astype(np.float32)
            part.copy_(torch.from_numpy(values).view_as(part))
            start += part.numel()
    norms = [layer.running_var for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    lowest = min(float(variance.min()) for variance in norms if variance is not None)
    if not lowest > LOWEST_VARIANCE:
        raise UserError(f"{key}={path} is of another network: it would have a variance of {lowest:.2g}")


def _parts(module: nn.Module) -> list[Tensor]:
    """List the tensors of a network of convolutions, each with its batch norm, in the order of the file."""
    parts: list[Tensor] = []
    weight: Tensor | None = None
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight
        elif isinstance(layer, nn.BatchNorm2d) and weight is not None:
            assert layer.running_mean is not None and layer.running_var is not None
            parts += [layer.bias, layer.weight, layer.running_mean, layer.running_var, weight]
            weight = None
    return parts
