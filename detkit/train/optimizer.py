"""Build the optimizer with learning rates and weight decays by kind of parameter and part of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from detkit.config.instantiate import takes
from detkit.core.errors import UserError

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
    part_lr: Mapping[str, Any] | None = None,
    per_images: int | None = None,
    images: int | None = None,
) -> Optimizer:
    """An optimizer over the parameters of `model` that want a gradient.

    algorithm: a class of torch.optim with its own settings bound. decay_norm, decay_bias: whether weight decay
    acts on normalisation layers and on biases. bias_lr: factor of `lr` for biases (2 in Caffe's recipes). part_lr:
    factors for parts of the model, by the names of its submodules ({"roi_head": {"predictor": {"logit": 10}}}, or the
    same as "roi_head.predictor.logit"); of several that hold a parameter the innermost counts. backbone_lr: that of
    model.backbone. per_images, images: how many images of a step `lr` is for, and how many there are: see `lr_factor`.
    Each group keeps its own base in "initial_lr".
    Raises UserError where nothing is left to train, and where the model has no such part.
    """
    parts = {"backbone": backbone_lr} | dict(_leaves(part_lr or {}))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    names = [name for name, _ in model.named_parameters()]
    for part in parts:
        if part != "backbone" and not any(_holds(part, name) for name in names):
            known = ", ".join(name for name, child in model.named_children() if any(True for _ in child.parameters()))
            raise UserError(f"optimizer.part_lr.{part}: the model has no such part with weights; it has {known}")
    base = lr * lr_factor(per_images, images)
    for name, kind, parameter in trainable(model):
        held = [part for part in parts if _holds(part, name)]
        factor = (parts[max(held, key=len)] if held else 1.0) * (bias_lr if kind == "bias" else 1.0)
        decays = {"norm": decay_norm, "bias": decay_bias, "weight": True}[kind]
        groups.setdefault((base * factor, weight_decay if decays else 0.0), []).append(parameter)
    if not groups:
        raise UserError("every parameter of the model is frozen: nothing is left to train")
    rows: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    return algorithm(rows, lr=base)


def start_optimizer(part: Callable[..., Optimizer], model: nn.Module, images: int) -> Optimizer:
    """The optimizer of a config for `model`; it is told how many images a step has, where it wants to know.

    One of the user's own need be no more than a callable that takes the model.
    """
    function = part.func if isinstance(part, partial) else part
    return part(model, images=images) if "images" in (takes(function) or ()) else part(model)


def lr_factor(per_images: int | None, images: int | None) -> float:
    """What a learning rate for steps of `per_images` images is multiplied by for steps of `images`; 1 where unknown.

    A step of k times the images goes k times as far (Goyal et al. 2017, section 2.1).
    """
    return 1.0 if per_images is None or images is None else images / per_images


def describe_lr(settings: Mapping[str, Any], per_step: tuple[int, int, int]) -> str:
    """A line for the reader of the log: the learning rate, and how it follows from the images of a step.

    settings: the config of the optimizer; "" for one of the user's own that has no lr. per_step: (images of a batch,
    batches of a process, processes).
    """
    lr, per_images = settings.get("lr"), settings.get("per_images")
    if lr is None:
        return ""
    images = math.prod(per_step)
    named = zip(per_step, ("images", "batches", "processes"), strict=True)
    factors = " x ".join(f"{count} {what}" for count, what in named if count > 1 or what == "images")
    step = f"{images} images a step" + (f" ({factors})" if images != per_step[0] else "")
    if per_images is None:
        return f"learning rate {lr:g}; it does not follow the {step} (optimizer.per_images=null)"
    return f"learning rate {lr * lr_factor(per_images, images):g} for {step}: {lr:g} is for {per_images}"


def restore_optimizer(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Load a state dict in place, but for the base rates: those follow from how many images a step has now."""
    bases = [group["initial_lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(saved))
    for group, base in zip(optimizer.param_groups, bases, strict=True):
        group["initial_lr"] = base


def set_lr(optimizer: Optimizer, factor: float) -> float:
    """Set every group's learning rate to `factor` times its base; returns that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    first: float = optimizer.param_groups[0]["lr"]
    return first


def trainable(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(name, "norm" | "bias" | "weight", parameter) of every parameter that wants a gradient, each once."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for local, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                kind = "norm" if isinstance(module, NORMS) else "bias" if local == "bias" else "weight"
                yield f"{prefix}.{local}" if prefix else local, kind, parameter


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    if not isinstance(node, Mapping):
        raise UserError(f"optimizer.part_lr={node}: give parts of the model and their factors, as {{backbone: 0.1}}")
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _holds(part: str, name: str) -> bool:
    return name == part or name.startswith(f"{part}.")
