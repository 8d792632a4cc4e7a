"""Every YOLO: learns, survives empty images and any size, is the same batched and alone, and round-trips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scenes import (
    assert_batched_is_alone,
    assert_detections,
    assert_round_trip,
    assert_trains_without_objects,
    chatty,
    eight_scenes,
    opinionated,
    overfit,
    scene,
    seen,
)

from detkit.core.errors import UserError
from detkit.model.detector import Detector

SMALL = "model.backbone.name=resnet10t"
V3 = ("model=yolo_v3_light", "preprocess=letterbox", SMALL, "model.neck.channels=[16,24,32]", "preprocess.size=128")
V2 = (
    "model=yolo_v2_light",
    "preprocess=letterbox",
    SMALL,
    "model.neck.channels=64",
    "model.dense_head.settle_images=0",
    "preprocess.size=192",
)
V1 = (
    "model=yolo_v1_light", SMALL, "model.dense_head.channels=48", "model.dense_head.grid=4",
    "model.dense_head.conv_strides=[1]", "preprocess.height=128", "preprocess.width=128",
)  # fmt: skip
X = (
    "model=yolox_light",
    "preprocess=letterbox",
    SMALL,
    "model.neck.channels=[16,24,32]",
    "model.dense_head.channels=24",
    "preprocess.size=128",
)
MODELS = {
    "v1": V1,
    "v1 full layers": (*V1, "model.dense_head.hidden=64"),
    "v2": V2,
    "v3": V3,
    "v3 paper's loss": (*V3, "model.dense_head.box_loss=squared"),
    "v3 several anchors": (*V3, "model.dense_head.extra_iou=0.5"),
    "x": X,
    "x nano": ("model=yolox_nano", "preprocess.size=128"),
}
each_model = pytest.mark.parametrize("overrides", MODELS.values(), ids=MODELS.keys())


@each_model
def test_contract_and_batched_equals_alone(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    assert_batched_is_alone(opinionated(build(*overrides, num_classes=2)))


@each_model
def test_trains_on_images_without_objects(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    assert_trains_without_objects(build(*overrides, num_classes=2))


@each_model
def test_trains_and_predicts_at_sizes_that_no_stride_divides(
    build: Callable[..., Detector], overrides: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    model = build(*overrides, num_classes=2).train()
    batch = seen(model, [scene(0, 3)] * 2)
    size = (batch.images.shape[2] - 21, batch.images.shape[3] - 9)
    batch.images, batch.sizes = batch.images[:, :, : size[0], : size[1]], [size] * 2
    assert all(loss.isfinite() for loss in model(batch).values())
    with torch.inference_mode():
        assert_detections(chatty(model).predict(batch)[0], 2)


@each_model
def test_difficult_objects_teach_nothing(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = build(*overrides, num_classes=2).train()
    image, target = scene(0, 2)
    target["difficult"][:] = True
    losses = model(seen(model, [(image, target)] * 2))
    assert all(value == 0 for name, value in losses.items() if name not in ("objectness", "confidence"))


@pytest.mark.slow
@each_model
def test_learns_eight_scenes(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = build(*overrides, num_classes=2)
    assert overfit(model, eight_scenes(), steps=60, lr=3e-3) > 0.9


@pytest.mark.parametrize("overrides", [V1, V2, V3, X], ids=["v1", "v2", "v3", "x"])
def test_checkpoint_round_trip(
    build: Callable[..., Detector], compose_train: Callable, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = build(*overrides, num_classes=2)
    assert_round_trip(model, compose_train(*overrides).model, tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=yolo_v3", "model.dense_head.anchors=[[[10,13]]]"), "one list, equally long, for each of the strides"),
        (("model=yolo_v3", "model.dense_head.box_loss=l2"), "choose squared, giou, diou, ciou"),
        (("model=yolo_v3", "model.backbone.name=darknet21"), "yolo_v1, darknet19, darknet53"),
        (("model=yolo_v3", "model.strides=[16,64]"), r"none at \[64\]"),
        (("model=yolo_v3", "model.neck.channels=[64]"), "one number per map"),
        (("model=yolo_v2", "model.strides=[8,16,32]"), "a passthrough joins two maps"),
        (("model=yolo_v2", "model.neck=null"), "YOLO v2 reads one map"),
        (("model=yolox", "model.strides=[2]"), "none at"),
    ],
)
def test_wrong_settings_are_named(build: Callable[..., Detector], overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(*overrides)
