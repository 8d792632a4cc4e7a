"""Every anchor-based one-stage model: learns, survives empty images, is the same batched and alone, round-trips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scenes import (
    assert_batched_is_alone,
    assert_round_trip,
    assert_trains_without_objects,
    eight_scenes,
    opinionated,
    overfit,
    scene,
    seen,
)

from detkit.core.errors import UserError
from detkit.model.backbone.mobilenet import MobileNetV3
from detkit.model.detector import Detector

SMALL = "model.backbone.name=resnet10t"
WARPED = ("preprocess.height=96", "preprocess.width=128")
SSD_LIGHT = ("model=ssd_light", SMALL, *WARPED)
SSDLITE = ("model=ssdlite", SMALL, *WARPED)
RETINA = ("model=retinanet_light", SMALL, "preprocess.short=96")
FCOS = ("model=fcos", "model/backbone=resnet18", "model.backbone.norm=live", "preprocess.short=96")
SSD300 = ("model=ssd300", "model.backbone.name=vgg11_bn")
SSD512 = ("model=ssd512", "model.backbone.name=vgg11_bn")
MODELS = [
    SSD_LIGHT,
    SSDLITE,
    ("model=ssdlite", "model/backbone=mobilenet_v3", "model.backbone.reduced_tail=true", *WARPED),
    RETINA,
    ("model=retinanet", "model/backbone=resnet18", "model.backbone.norm=live", "preprocess.short=96"),
    FCOS,
    pytest.param(SSD300, marks=pytest.mark.slow),
    pytest.param(SSD512, marks=pytest.mark.slow),
]


def name(overrides: tuple[str, ...]) -> str:
    return " ".join(overrides[:2]).replace("model", "m")


@pytest.mark.parametrize("overrides", MODELS, ids=name)
def test_contract_and_batched_equals_alone(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    assert_batched_is_alone(opinionated(build(*overrides, num_classes=2)))


@pytest.mark.parametrize("overrides", MODELS, ids=name)
def test_trains_on_images_without_objects(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    assert_trains_without_objects(build(*overrides, num_classes=2))


@pytest.mark.parametrize("overrides", [SSD_LIGHT, RETINA], ids=name)
def test_difficult_objects_teach_nothing(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    model = build(*overrides, num_classes=2).train()
    image, target = scene(0, 2)
    target["difficult"][:] = True
    assert model(seen(model, [(image, target)]))["box"] == 0


@pytest.mark.parametrize("overrides", [SSD_LIGHT, SSDLITE, RETINA, FCOS], ids=name)
def test_trains_on_a_single_image(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    """As the last batch of an epoch may be, though the coarsest map may have a single cell."""
    model = build(*overrides, num_classes=2).train()
    assert all(loss.isfinite() for loss in model(seen(model, [scene(0, 2)])).values())


@pytest.mark.slow
def test_ssd_learns_eight_scenes(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    assert overfit(build(*SSD_LIGHT, num_classes=2), eight_scenes(), steps=50, lr=2e-3) > 0.9


@pytest.mark.slow
def test_retinanet_learns_eight_scenes(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    assert overfit(build(*RETINA, num_classes=2), eight_scenes(), steps=50, lr=2e-3) > 0.9


@pytest.mark.slow
def test_ssdlite_learns_eight_scenes(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    overrides = ("model=ssdlite", SMALL, "preprocess.height=192", "preprocess.width=256")
    assert overfit(build(*overrides, num_classes=2), eight_scenes(), steps=150, lr=3e-3) > 0.9


@pytest.mark.slow
def test_ssd300_learns_eight_scenes(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    assert overfit(build(*SSD300, num_classes=2), eight_scenes(), steps=60, lr=1e-3) > 0.9


@pytest.mark.slow
def test_fcos_learns_eight_scenes(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    overrides = (*FCOS, "model.dense_head.num_convs=1")
    assert overfit(build(*overrides, num_classes=2), eight_scenes(), steps=60, lr=1e-3) > 0.9


@pytest.mark.parametrize(
    "overrides",
    [SSD_LIGHT, SSDLITE, RETINA, FCOS, *(pytest.param(ssd, marks=pytest.mark.slow) for ssd in (SSD300, SSD512))],
    ids=name,
)
def test_checkpoint_round_trip(
    build: Callable[..., Detector], compose_train: Callable, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    model = build(*overrides, num_classes=2)
    assert_round_trip(model, compose_train(*overrides).model, tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=ssd300", "model.neck=ssd512_extra"), "model/neck=ssd512_extra"),
        (("model=ssdlite", SMALL, "model.neck.channels=[512,256]"), "default_boxes has 6 levels, the features have 4"),
        (("model=ssd_light", SMALL, "model.dense_head.default_boxes.scales=[0.1,0.2]"), "need 5 scales"),
        (("model=retinanet_light", SMALL, "model.dense_head.anchors.sizes=[[8],[9]]"), "sizes has 2 levels"),
    ],
)
def test_wrong_parts_are_named(build: Callable[..., Detector], overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(*overrides)


def test_mobilenet_names_its_maps() -> None:
    with pytest.raises(UserError, match=r"has the maps \[16, 32\] and \[32, 32\]"):
        MobileNetV3(strides=[8, 16], pretrained=False)
    with pytest.raises(UserError, match="no ImageNet weights"):
        MobileNetV3(strides=[16, 32], reduced_tail=True)
    maps = MobileNetV3(strides=[16, 32], pretrained=False).eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(672, 4, 6), (960, 2, 3)]
