"""Batch norms folded into the convolutions before them: the same outputs in less time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def fold_batch_norm(
    module: nn.Module, run: Callable[[], Any], chosen: Callable[[nn.Conv2d], bool] = lambda conv: True
) -> int:
    """Fold, in place, the batch norms of `module` whose input comes from a chosen convolution; returns how many.

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
    for conv, name in pairs:
        parent, _, child = name.rpartition(".")
        norm = module.get_submodule(name)
        _scale(conv, norm)
        setattr(module.get_submodule(parent), child, getattr(norm, "act", nn.Identity()))
    return len(pairs)


def _scale(conv: nn.Conv2d, norm: nn.Module) -> None:
    """Give `conv` the affine map of `norm`: y = (x - mean) / sqrt(var + eps) * weight + bias."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # type: ignore[operator]
    shift = norm.bias - norm.running_mean * scale  # type: ignore[operator]
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    conv.weight.mul_(scale[:, None, None, None])
    conv.bias = nn.Parameter(shift.clone(), requires_grad=False)
