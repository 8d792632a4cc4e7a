"""The optimizer, with a learning rate and a weight decay by kind of parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from detkit.errors import UserError

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


def build_optimizer(
    model: nn.Module,
    *,
    algorithm: Callable[..., Optimizer],
    lr: float,
    weight_decay: float = 0.0,
    decay_norm: bool = False,
    decay_bias: bool = False,
    bias_lr: float = 1.0,
    backbone_lr: float = 1.0,
) -> Optimizer:
    """An optimizer over the parameters of `model` that want a gradient.

    algorithm: a class of torch.optim with its own settings bound. decay_norm, decay_bias: whether weight decay
    acts on normalisation layers and on biases. bias_lr, backbone_lr: factors of `lr` for biases (2 in Caffe's
    recipes) and for everything under model.backbone. Each group keeps its own base in "initial_lr".
    Raises UserError where nothing is left to train.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, kind, parameter in trainable(model):
        factor = (backbone_lr if name.startswith("backbone.") else 1.0) * (bias_lr if kind == "bias" else 1.0)
        decays = {"norm": decay_norm, "bias": decay_bias, "weight": True}[kind]
        groups.setdefault((lr * factor, weight_decay if decays else 0.0), []).append(parameter)
    if not groups:
        raise UserError("every parameter of the model is frozen: nothing is left to train")
    rows: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    return algorithm(rows, lr=lr)


def set_lr(optimizer: Optimizer, factor: float) -> float:
    """Set every group's learning rate to `factor` times its base; returns that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return optimizer.param_groups[0]["lr"]


def trainable(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(name, "norm" | "bias" | "weight", parameter) of every parameter that wants a gradient, each once."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for local, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                kind = "norm" if isinstance(module, NORMS) else "bias" if local == "bias" else "weight"
                yield f"{prefix}.{local}" if prefix else local, kind, parameter
