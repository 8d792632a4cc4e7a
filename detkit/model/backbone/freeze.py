"""Parts of a backbone that do not learn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

Norm = Literal["live", "frozen"]


def freeze(modules: Iterable[nn.Module]) -> None:
    """Stop the learning of modules, batch statistics included: in place."""
    for module in modules:
        freeze_batch_norm(module)
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def freeze_batch_norm(module: nn.Module) -> None:
    """Replace each batch norm below `module` by the fixed affine map of its statistics and weights: in place.

    At the one or two images per step of the R-CNN family, batch statistics are too noisy to learn from.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps)
            frozen.load_state_dict(child.state_dict(), strict=False)
            setattr(module, name, frozen)
        else:
            freeze_batch_norm(child)
