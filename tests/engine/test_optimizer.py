from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from detkit.engine.optimizer import build_optimizer, set_lr, trainable
from detkit.errors import UserError


def model() -> nn.Module:
    parts = nn.ModuleDict(
        {
            "backbone": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
            "head": nn.Sequential(nn.Linear(4, 2), nn.GroupNorm(1, 2), nn.LayerNorm(2)),
        }
    )
    parts["backbone"][0].bias.requires_grad_(False)
    return parts


def rates(optimizer: torch.optim.Optimizer, parts: nn.Module) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in parts.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_every_trainable_parameter_once_with_its_rate_and_decay() -> None:
    parts = model()
    optimizer = build_optimizer(
        parts, algorithm=partial(torch.optim.SGD, momentum=0.9), lr=1.0, weight_decay=0.1, bias_lr=2.0, backbone_lr=0.5
    )
    assert rates(optimizer, parts) == {
        "backbone.0.weight": (0.5, 0.1),
        "backbone.1.weight": (0.5, 0.0),
        "backbone.1.bias": (0.5, 0.0),
        "head.0.weight": (1.0, 0.1),
        "head.0.bias": (2.0, 0.0),
        "head.1.weight": (1.0, 0.0),
        "head.1.bias": (1.0, 0.0),
        "head.2.weight": (1.0, 0.0),
        "head.2.bias": (1.0, 0.0),
    }
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_decay_can_act_on_everything() -> None:
    parts = model()
    optimizer = build_optimizer(
        parts, algorithm=torch.optim.AdamW, lr=1.0, weight_decay=0.1, decay_norm=True, decay_bias=True
    )
    assert set(rates(optimizer, parts).values()) == {(1.0, 0.1)}


def test_set_lr_keeps_the_ratios() -> None:
    parts = model()
    optimizer = build_optimizer(parts, algorithm=torch.optim.SGD, lr=1.0, bias_lr=2.0)
    set_lr(optimizer, 0.5)
    set_lr(optimizer, 0.1)
    assert rates(optimizer, parts)["head.0.bias"][0] == pytest.approx(0.2)
    assert rates(optimizer, parts)["head.0.weight"][0] == pytest.approx(0.1)


def test_shared_parameters_come_once() -> None:
    layer = nn.Linear(2, 2)
    names = [name for name, _, _ in trainable(nn.ModuleDict({"a": layer, "b": layer}))]
    assert names == ["a.weight", "a.bias"]


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(UserError, match="frozen"):
        build_optimizer(model().requires_grad_(False), algorithm=torch.optim.SGD, lr=1.0)
