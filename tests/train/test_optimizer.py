from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from detkit.core.errors import UserError
from detkit.train.optimizer import build_optimizer, describe_lr, restore_optimizer, set_lr, start_optimizer, trainable


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


@pytest.mark.parametrize("part_lr", [{"head": {"0": 10.0, "2": 0.0}}, {"head.0": 10, "head.2": 0}])
def test_parts_learn_at_their_own_rates(part_lr: dict) -> None:
    parts = model()
    optimizer = build_optimizer(parts, algorithm=torch.optim.SGD, lr=0.5, bias_lr=2.0, backbone_lr=0.1, part_lr=part_lr)
    found = {name: rate for name, (rate, _) in rates(optimizer, parts).items()}
    assert found["head.0.weight"] == 5 and found["head.0.bias"] == 10  # 0.5 x 10, and twice that
    assert found["head.2.weight"] == found["head.2.bias"] == 0
    assert found["head.1.weight"] == 0.5
    assert found["backbone.0.weight"] == pytest.approx(0.05)


def test_of_parts_in_one_another_the_innermost_counts() -> None:
    parts = model()
    optimizer = build_optimizer(
        parts, algorithm=torch.optim.SGD, lr=1.0, part_lr={"head": 3.0, "head.0.bias": 7.0, "backbone.1": 2.0}
    )
    found = {name: rate for name, (rate, _) in rates(optimizer, parts).items()}
    assert found["head.0.weight"] == found["head.1.bias"] == 3 and found["head.0.bias"] == 7
    assert found["backbone.0.weight"] == 1 and found["backbone.1.weight"] == 2


def test_a_part_that_is_not_there_is_named() -> None:
    for part in ("hea", "neck"):
        with pytest.raises(UserError, match=rf"optimizer\.part_lr\.{part}: .* it has backbone, head"):
            build_optimizer(model(), algorithm=torch.optim.SGD, lr=1.0, part_lr={part: 2.0})
    with pytest.raises(UserError, match="part_lr=3"):
        build_optimizer(model(), algorithm=torch.optim.SGD, lr=1.0, part_lr=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("per_images", "per_step", "rate"),
    [(16, (4, 1, 1), 0.005), (16, (4, 2, 2), 0.02), (2, (1, 2, 8), 0.16), (None, (4, 2, 2), 0.02)],
)
def test_the_rate_follows_the_images_of_a_step(per_images: int | None, per_step: tuple, rate: float) -> None:
    parts, images = model(), per_step[0] * per_step[1] * per_step[2]
    optimizer = build_optimizer(
        parts, algorithm=torch.optim.SGD, lr=0.02, bias_lr=2.0, per_images=per_images, images=images
    )
    found = rates(optimizer, parts)
    assert found["head.0.weight"][0] == pytest.approx(rate) and found["head.0.bias"][0] == pytest.approx(2 * rate)
    assert f"learning rate {rate:g}" in describe_lr({"lr": 0.02, "per_images": per_images}, per_step)


def test_the_line_says_what_the_rate_is_made_of() -> None:
    assert describe_lr({"lr": 0.02, "per_images": 16}, (4, 2, 3)) == (
        "learning rate 0.03 for 24 images a step (4 images x 2 batches x 3 processes): 0.02 is for 16"
    )
    assert (
        describe_lr({"lr": 0.02, "per_images": 16}, (16, 1, 1))
        == "learning rate 0.02 for 16 images a step: 0.02 is for 16"
    )
    assert "learning rate 0.0006; it does not follow the 8 images" in describe_lr(
        {"lr": 6e-4, "per_images": None}, (4, 1, 2)
    )


def test_going_on_with_more_processes_has_their_rate_and_the_momentum_of_before() -> None:
    parts, sgd = model(), partial(torch.optim.SGD, momentum=0.9)
    before, after = (build_optimizer(parts, algorithm=sgd, lr=1.0, per_images=4, images=images) for images in (4, 8))
    sum(parameter.sum() for parameter in parts.parameters()).backward()  # type: ignore[union-attr]
    set_lr(before, 0.5)
    before.step()
    restore_optimizer(after, before.state_dict())
    set_lr(after, 0.5)
    assert after.param_groups[0]["lr"] == 1.0
    assert all(
        torch.equal(state["momentum_buffer"], torch.ones_like(parameter)) for parameter, state in after.state.items()
    )


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


def test_an_optimizer_of_one_s_own_need_not_know_how_many_images_there_are() -> None:
    model = nn.Linear(2, 2)
    assert isinstance(
        start_optimizer(lambda module: torch.optim.SGD(module.parameters(), 0.5), model, 4), torch.optim.SGD
    )
    settings = {"algorithm": torch.optim.SGD, "lr": 0.1, "weight_decay": 0.0, "per_images": 2}
    (group,) = start_optimizer(partial(build_optimizer, **settings), model, 4).param_groups
    assert group["lr"] == 0.2
    assert describe_lr({}, (4, 1, 1)) == ""
