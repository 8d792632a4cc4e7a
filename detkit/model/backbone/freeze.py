"""Freeze parts of a backbone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from timm.layers import freeze_batch_norm_2d
from torch import nn

# "frozen" uses the statistics that came with the weights: at the one or two images per step of the R-CNN family,
# those of a batch are too noisy to learn from.
Norm = Literal["live", "frozen"]


def freeze(modules: Iterable[nn.Module]) -> None:
    """Freeze the parameters of modules and their batch statistics: in place."""
    for module in modules:
        freeze_batch_norm_2d(module)
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def freeze_up_to(net: nn.Module, last: str) -> None:
    """Freeze all parts of `net` that are registered before its submodule `last` or within it: in place."""
    names = [name for name, _ in net.named_modules()]
    end = max(index for index, name in enumerate(names) if name == last or name.startswith(f"{last}."))
    for name in names[1 : end + 1]:
        part = net.get_submodule(name)
        if hasattr(part, "running_var") or not list(part.children()):
            parent, _, child = name.rpartition(".")
            part.requires_grad_(False)
            setattr(net.get_submodule(parent), child, freeze_batch_norm_2d(part))
