"""Convert state dicts of torchvision's detectors to detkit's names and class rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from detkit.checkpoint.torchvision.architecture import ARCHITECTURES, Architecture
from detkit.core.errors import UserError

FROZEN_EPS = 1e-5  # of detkit's frozen batch norms


def recognise(state: Mapping[str, Tensor], file_name: str = "") -> Architecture | None:
    """The architecture that weights belong to, or None.

    file_name: of several with the same weights, the one whose name it begins with; else the first.
    """
    mark = next((architecture.mark for architecture in ARCHITECTURES if architecture.mark in state), None)
    same = [architecture for architecture in ARCHITECTURES if architecture.mark == mark]
    called = [architecture for architecture in same if file_name.startswith(architecture.name)]
    return next(iter(called + same), None)


def by_name(name: str) -> Architecture:
    """The architecture that torchvision calls `name`; raises UserError naming those there are."""
    known = {architecture.name: architecture for architecture in ARCHITECTURES}
    if name not in known:
        raise UserError(f"{name} is none of the detectors of torchvision that detkit can be: {', '.join(known)}")
    return known[name]


def convert(
    architecture: Architecture,
    state: Mapping[str, Tensor],
    *,
    columns: Sequence[int] | None = None,
    exact_norms: bool = False,
) -> dict[str, Tensor]:
    """The weights under detkit's names.

    columns: which of their classes to keep, in order, where column 0 is background; None keeps all but that. Their
    class k is then our class k - 1. A softmax keeps its background too; what torchvision has for background where
    detkit has nothing (a box, a sigmoid) is dropped.
    exact_norms: whether frozen batch norms divide by the variance without anything added, as in the weights that
    torchvision publishes for some. Raises UserError for a weight that the model does not have.
    """
    count = architecture.num_columns(state)
    kept = list(range(1, count)) if columns is None else list(columns)
    converted = {}
    for name, value in state.items():
        ours = rename(architecture, name)
        for layer in architecture.class_layers:
            if re.match(layer.prefix, ours):
                rows = [0, *kept] if layer.background else kept
                value = value.unflatten(0, (-1, count, layer.values))[:, rows].flatten(0, 2)
        if exact_norms and architecture.exact_norms and ours.startswith(architecture.exact_norms):
            value = value - FROZEN_EPS if ours.endswith(".running_var") else value
        converted[ours] = torch.clone(value)
    return converted


def rename(architecture: Architecture, name: str) -> str:
    """What detkit calls the weight that torchvision calls `name`."""
    for theirs, ours in architecture.rules:
        if re.match(theirs, name):
            return re.sub(theirs, ours, name, count=1)
    raise UserError(f"{name} is no weight of torchvision's {architecture.name}")
