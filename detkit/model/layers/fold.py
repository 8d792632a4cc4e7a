"""Fold batch norms into the convolutions before them: the same outputs in less time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

PARTS = ("weight", "bias", "running_mean", "running_var")  # of a batch norm


class Folded(NamedTuple):
    """Names of a convolution and of the batch norm that was folded into it; eps: of the norm."""

    conv: str
    norm: str
    eps: float


@torch.no_grad()
def fold_batch_norm(
    module: nn.Module, run: Callable[[], object], chosen: Callable[[nn.Conv2d], bool] = lambda conv: True
) -> list[Folded]:
    """Fold, in place, the batch norms of `module` whose input comes from a chosen convolution; returns the pairs.

    The pairs are found by watching `run()`, a forward of the module, whatever the code between them looks like. A norm
    after several convolutions stays, and so does one of several that read one convolution. An activation that the
    norm carries (timm's BatchNormAct2d) stays too. The module must be in eval mode; what is folded cannot learn any
    more as it did.
    """
    producers: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor is kept, so that its id stays its own
    read_by: dict[nn.Conv2d, set[str]] = defaultdict(set)
    reads: dict[str, set[nn.Conv2d | None]] = defaultdict(set)
    hooks = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d) and chosen(part):
            hooks.append(part.register_forward_hook(lambda conv, _, out: producers.update({id(out): (conv, out)})))
        elif hasattr(part, "running_var"):

            def note(_: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
                conv, _output = producers.get(id(inputs[0]), (None, None))
                reads[name].add(conv)
                if conv is not None:
                    read_by[conv].add(name)

            hooks.append(part.register_forward_pre_hook(note))
    run()
    for hook in hooks:
        hook.remove()
    pairs = [(conv, name) for name, (conv, *others) in reads.items() if conv and not others and read_by[conv] == {name}]
    names = {part: name for name, part in module.named_modules()}
    folded = []
    for conv, name in pairs:
        parent, _, child = name.rpartition(".")
        norm: Any = module.get_submodule(name)
        weight, bias = _scaled(conv.weight, conv.bias, {part: getattr(norm, part) for part in PARTS}, norm.eps)
        conv.weight.copy_(weight)
        conv.bias = nn.Parameter(bias, requires_grad=False)
        setattr(module.get_submodule(parent), child, getattr(norm, "act", nn.Identity()))
        folded.append(Folded(names[conv], name, norm.eps))
    return folded


@torch.no_grad()
def fold_weights(weights: dict[str, Tensor], pairs: Iterable[Folded], prefix: str = "") -> None:
    """Fold in a state dict, in place, what `fold_batch_norm` folded in a module, where the norms are still there.

    prefix: of the module in the names of the state dict.
    """
    for conv, norm, eps in pairs:
        kernel, bias = f"{prefix}{conv}.weight", f"{prefix}{conv}.bias"
        parts = {part: weights[name] for part in PARTS if (name := f"{prefix}{norm}.{part}") in weights}
        if kernel in weights and len(parts) == len(PARTS):
            weights[kernel], weights[bias] = _scaled(weights[kernel], weights.get(bias), parts, eps)
            for part in (*PARTS, "num_batches_tracked"):
                weights.pop(f"{prefix}{norm}.{part}", None)


def _scaled(kernel: Tensor, bias: Tensor | None, norm: Mapping[str, Tensor], eps: float) -> tuple[Tensor, Tensor]:
    """Compute the weights of a convolution followed by y = (x - mean) / sqrt(var + eps) * weight + bias."""
    scale = norm["weight"] * (norm["running_var"] + eps).rsqrt()
    shift = norm["bias"] - norm["running_mean"] * scale
    if bias is not None:
        shift = shift + bias * scale
    return kernel * scale[:, None, None, None], shift.clone()
