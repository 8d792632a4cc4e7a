"""Every anchor-based one-stage model: learns, survives empty images, is the same batched and alone, round-trips."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from scenes import (
    assert_detections,
    assert_round_trip,
    assert_same,
    eight_scenes,
    opinionated,
    overfit,
    scene,
    seen,
)

from detkit.engine.checkpoint import load_checkpoint
from detkit.errors import UserError
from detkit.model.backbone.mobilenet import MobileNetV3
from detkit.model.detector import Detector

ROOT = Path(__file__).resolve().parents[2]
SMALL = "model.backbone.name=resnet10t"
WARPED = ("preprocess.height=96", "preprocess.width=128")
SSD_LIGHT = ("model=ssd_light", SMALL, *WARPED)
SSDLITE = ("model=ssdlite", SMALL, *WARPED)
RETINA = ("model=retinanet_light", SMALL, "preprocess.short=96")
MODELS = [
    SSD_LIGHT,
    SSDLITE,
    ("model=ssdlite", "model/backbone=mobilenet_v3", "model.backbone.reduced_tail=true", *WARPED),
    RETINA,
    ("model=retinanet", "model/backbone=resnet18", "model.backbone.norm=live", "preprocess.short=96"),
    ("model=fcos", "model/backbone=resnet18", "model.backbone.norm=live", "preprocess.short=96"),
    pytest.param(("model=ssd300", "model.backbone.name=vgg11_bn"), marks=pytest.mark.slow),
]


def name(overrides: tuple[str, ...]) -> str:
    return " ".join(overrides[:2]).replace("model", "m")


@pytest.mark.parametrize("overrides", MODELS, ids=name)
def test_contract_and_batched_equals_alone(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = opinionated(build(*overrides, num_classes=2))
    scenes = [scene(0, 3), scene(1, 0), scene(2, 4)]
    with torch.inference_mode():
        together = model.predict(seen(model, scenes))
        alone = [model.predict(seen(model, [one]))[0] for one in scenes]
    for a, b in zip(together, alone, strict=True):
        assert_detections(a, 2)
        assert_same(a, b)


@pytest.mark.parametrize("overrides", MODELS, ids=name)
def test_trains_on_images_without_objects(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = build(*overrides, num_classes=2).train()
    for count in (0, 2):
        losses = model(seen(model, [scene(0, count)] * 2))
        assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
        model.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing


@pytest.mark.parametrize("overrides", [SSD_LIGHT, RETINA], ids=name)
def test_difficult_objects_teach_nothing(build: Callable[..., Detector], overrides: tuple[str, ...]) -> None:
    model = build(*overrides, num_classes=2).train()
    image, target = scene(0, 2)
    target["difficult"][:] = True
    assert model(seen(model, [(image, target)]))["box"] == 0


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
    model = build("model=ssd300", "model.backbone.name=vgg11_bn", num_classes=2)
    assert overfit(model, eight_scenes(), steps=60, lr=1e-3) > 0.9


@pytest.mark.parametrize("overrides", [SSD_LIGHT, SSDLITE, RETINA], ids=name)
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


def write_scenes(root: Path, counts: Sequence[int]) -> Path:
    """A VOC folder of scenes with so many objects each."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for index, count in enumerate(counts):
        image, target = scene(index, count)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / "JPEGImages" / f"{index}.png")
        objects = "".join(
            f"<object><name>{'bright' if label == 0 else 'dark'}</name><bndbox><xmin>{x1 + 1:.0f}</xmin>"
            f"<ymin>{y1 + 1:.0f}</ymin><xmax>{x2:.0f}</xmax><ymax>{y2:.0f}</ymax></bndbox></object>"
            for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
        )
        size = "<size><width>128</width><height>96</height><depth>3</depth></size>"
        text = f"<annotation><filename>{index}.png</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"{index}.xml").write_text(text)
    for split in ("train", "val"):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{i}\n" for i in range(len(counts))))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [SSD_LIGHT, RETINA], ids=name)
def test_two_processes_train_though_one_may_see_no_object(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    root = write_scenes(tmp_path / "data", [0, 3, 0, 0])
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "detkit.cli",
        "train", *overrides, "model.backbone.pretrained=false", "data=voc", f"data.root={root}",
        f"run_dir={tmp_path / 'run'}", "trainer.budget=3it", "trainer.eval_every=null", "loader.batch_size=1",
        "loader.num_workers=0", "evaluation.timing_images=0", "evaluation.pictures=0", "device=cpu",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["position"]["step"] == 3
