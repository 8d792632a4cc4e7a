"""Every two-stage model: learns, survives empty images, is the same batched and alone, and round-trips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scenes import (
    SIZE,
    assert_detections,
    assert_round_trip,
    assert_same,
    chatty,
    eight_scenes,
    enlarged,
    make_batch,
    overfit,
    proposals,
    scene,
)

from detkit.checkpoint.build import build_from_checkpoint
from detkit.checkpoint.content import Checkpoint
from detkit.core.errors import UserError
from detkit.core.structures import Batch
from detkit.model.detector import Detector

LIGHT = ("model=faster_rcnn_light", "model.backbone.name=resnet10t", "preprocess.short=96")
RCNN = ("model=rcnn_light", "model.roi_pool.size=48", "model.roi_pool.context=4", "preprocess.short=96")
MODELS = [
    LIGHT,
    ("model=faster_rcnn",),
    ("model=faster_rcnn", "model/backbone=resnet18", "model/box_head=res5"),
    ("model=faster_rcnn", "model/backbone=timm", "model/roi_pool=roi_align", "model.predictor.class_agnostic=true"),
    ("model=faster_rcnn", "model/backbone=resnet18", "model/neck=fpn", "model.backbone.norm=live"),
    ("model=faster_rcnn_fpn", "model/backbone=resnet18"),
    ("model=rfcn", "model/backbone=resnet18"),
    ("model=fast_rcnn", "model.box_head.channels=64"),
    ("model=fast_rcnn_light", "model.backbone.name=resnet10t", "preprocess.short=96"),
    ("model=rfcn_light", "model.backbone.name=resnet10t", "preprocess.short=96"),
    RCNN,
    ("model=rcnn", "model/box_head=region_cnn", "model/backbone@model.box_head.backbone=resnet18",
     "model/predictor=linear", "model.roi_pool.size=48", "model.roi_head.chunk_size=5", "preprocess.short=96"),
]  # fmt: skip


@pytest.mark.parametrize("overrides", MODELS, ids=lambda o: " ".join(o).replace("model", "m"))
def test_contract_and_batched_equals_alone(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = chatty(build(*overrides, num_classes=2))
    scenes = [scene(0, 3), scene(1, 0), scene(2, 4)]
    # oneDNN sums in another order for another batch size, which random weights enlarge beyond any tolerance
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        together = model.predict(make_batch(scenes))
        alone = [model.predict(make_batch([one]))[0] for one in scenes]
    for a, b in zip(together, alone, strict=True):
        assert_detections(a, 2)
        assert_same(a, b)


@pytest.mark.parametrize("overrides", MODELS, ids=lambda o: " ".join(o).replace("model", "m"))
def test_trains_on_images_without_objects(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = build(*overrides, num_classes=2).train()
    losses = model(make_batch([scene(0, 0)] * 2))
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


def test_padding_of_a_larger_neighbour_changes_nothing_inside_the_network(build: Callable[..., Detector]) -> None:
    model = chatty(build(*LIGHT, num_classes=2))
    batch = make_batch([scene(0, 3), scene(1, 3)])
    batch.sizes = batch.original_sizes = [(64, 96), SIZE]
    alone = Batch(batch.images[:1].clone(), batch.sizes[:1], batch.original_sizes[:1], ["0"])
    alone.images[:, :, 64:] = 7  # whatever lies beyond the content is not seen
    with torch.inference_mode():
        a, b = model.predict(batch)[0], model.predict(alone)[0]
    assert_detections(a, 2, (64, 96))
    assert torch.allclose(a.boxes, b.boxes, atol=1e-2)


def test_no_ground_truth_among_the_candidates_of_a_test(build: Callable[..., Detector]) -> None:
    """The original's region database holds both; a detector that is handed the answers scores too well."""
    torch.manual_seed(0)
    model = chatty(build(*RCNN, num_classes=2))
    batch = make_batch([scene(0, 4), scene(1, 3)])
    assert batch.targets is not None and batch.proposals is not None
    off = torch.tensor([-5.0, 3, 6, -4])
    batch.proposals = [torch.cat([target["boxes"] + off, target["boxes"].roll(5, 1)]) for target in batch.targets]
    with torch.inference_mode():
        known = model.predict(batch)
        unknown = model.predict(replace(batch, targets=None))
    for a, b, target in zip(known, unknown, batch.targets, strict=True):
        assert len(a) > 0 and torch.equal(a.boxes, b.boxes) and torch.equal(a.scores, b.scores)
        assert (torch.cdist(a.boxes, target["boxes"], p=float("inf")) > 1).all()


def test_difficult_objects_teach_nothing(build: Callable[..., Detector]) -> None:
    model = build(*LIGHT, num_classes=2).train()
    image, target = scene(0, 2)
    target["difficult"][:] = True
    losses = model(make_batch([(image, target)]))
    assert losses["rpn_box"] == 0 and losses["roi_box"] == 0


def test_learns_eight_scenes(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    sizes = "model.proposer.anchors.sizes=[[16,24],[32,40],[48,64]]"
    model = build(*LIGHT, sizes, "model.proposer.negative_iou=0.4", num_classes=2)
    assert overfit(model, eight_scenes(), steps=60, lr=2e-3) > 0.9


@pytest.mark.slow
def test_rcnn_learns_eight_scenes(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    model = build(*RCNN, "model.box_head.backbone.name=resnet10t", "model.roi_head.num_samples=16", num_classes=2)
    assert overfit(model, eight_scenes(), steps=40, lr=2e-3) > 0.9


@pytest.mark.slow
def test_fast_rcnn_learns_eight_scenes(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    light = ("model=fast_rcnn_light", "model.backbone.name=resnet10t", "preprocess.short=96")
    model = build(*light, "model.roi_head.bg_iou=[0.0,0.5]", "model.roi_head.box_std=null", num_classes=2)
    scenes = eight_scenes()
    model.fit_statistics({**target, "proposals": proposals(target)} for _, target in scenes)
    assert overfit(model, scenes, steps=60, lr=2e-3) > 0.9


@pytest.mark.slow
def test_rfcn_learns_eight_scenes(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    settings = [f"model.backbone.{key}" for key in ("norm=live", "frozen_stages=0")]
    settings += [f"model.box_head.{key}" for key in ("norm=live", "channels=128")]
    settings += [f"model.proposer.{key}" for key in ("channels=128", "drop_border=false", "negative_iou=0.4")]
    settings += ["model.proposer.anchors.sizes=[[48,72,96]]", "model.proposer.anchors.convention=exact"]
    model = build("model=rfcn", "model/backbone=resnet18", "preprocess.short=288", *settings, num_classes=2)
    # three times as large: at stride 16 the cells of a region must not fall together
    scenes = [enlarged(scene(seed, 2 + seed % 3), 3) for seed in range(8)]
    assert overfit(model, scenes, steps=120, lr=1e-3) > 0.9


def test_checkpoint_round_trip(build: Callable[..., Detector], compose_train: Callable, tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert_round_trip(build(*LIGHT, num_classes=2), compose_train(*LIGHT).model, tmp_path / "x.pt")


@pytest.mark.parametrize(
    "target",
    ["os.system", "detkit.model.detector.torch.hub.load", "detkit.model.dense.Literal", "detkit.model.nothing.X"],
)
def test_a_checkpoint_builds_only_parts_of_detkit(target: str) -> None:
    config = {"model": {"part": {"_target_": target, "command": "true"}}}
    preprocess = {"_target_": "detkit.image.preprocess.Warp"}
    with pytest.raises(UserError, match=target):
        build_from_checkpoint(Checkpoint(model={}, config=config, classes=["a"], preprocess=preprocess))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.backbone=resnet50",), "model/backbone=resnet50"),
        (("model.strides=[16,64]",), r"model\.strides=\[16, 64\]"),
        (("model.proposer.anchors.sizes=[[32],[64]]",), "one list of sizes per level"),
        (("model.proposer.anchors.sizes=[[32],[64,96]]",), "as many sizes as the others"),
        (("model/backbone=timm", "model.backbone.name=efficientnet_lite"), "near: efficientnet_lite0"),
    ],
)
def test_wrong_parts_are_named(build: Callable[..., Detector], overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("model=faster_rcnn", *overrides)
