"""A Darknet network is a detector like any other: predicts, is measured, learns, is saved, and goes back to Darknet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from darknet_nets import CFGS, build, write_files
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from scenes import SIZE, assert_batched_is_alone, chatty, overfit, scene, seen
from torch.nn import Conv2d, Linear
from torch.nn.init import normal_

import detkit
from detkit.checkpoint.build import build_from_checkpoint
from detkit.checkpoint.darknet.cfg import read_cfg
from detkit.checkpoint.darknet.read_darknet import read_darknet, write_darknet
from detkit.checkpoint.darknet.weights import dump_weights
from detkit.checkpoint.store import save_checkpoint
from detkit.commands.cli import main
from detkit.core.errors import UserError
from detkit.evaluate.evaluate import run_eval
from detkit.image.preprocess import Warp
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.train.train import train

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def darknet(tmp_path: Path) -> Callable[..., Path]:
    """darknet(kind, names=...): a `.cfg` with its `.weights`, random, and its names, in a folder."""

    def written(kind: str = "yolo", names: str | None = "bright\ndark\n") -> Path:
        cfg = write_files(tmp_path, kind)
        if names is not None:
            (tmp_path / "objects.names").write_text(names)
        return cfg

    return written


@pytest.mark.parametrize("kind", CFGS)
def test_contract_and_batched_equals_alone(kind: str) -> None:
    model = chatty(build(kind))
    for index in model.backbone.heads:  # as it starts it gives every box nearly the same score
        model.backbone.layers[index - 1].apply(lambda part: isinstance(part, (Conv2d, Linear)) and normal_(part.weight))
    assert_batched_is_alone(model)


@pytest.mark.parametrize("kind", CFGS)
@pytest.mark.parametrize("objects", ["none", "difficult"])
def test_trains_where_there_is_nothing_to_find(kind: str, objects: str) -> None:
    model = build(kind).train()
    scenes = [scene(0, 0 if objects == "none" else 2)] * 2
    for _, target in scenes:
        target["difficult"][:] = True
    losses = model(seen(model, scenes))
    assert losses["box"] == 0 and all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "lr"), [("yolo", 3e-3), ("region", 3e-3), ("detection", 1e-3)])
def test_learns_eight_scenes(kind: str, lr: float) -> None:
    model = build(kind)
    model.backbone.apply(lambda part: setattr(part, "momentum", 0.1) if hasattr(part, "momentum") else None)
    assert overfit(model, [scene(seed, 2 + seed % 3) for seed in range(8)], steps=100, lr=lr) > 0.9


def test_norms_learn_with_live_statistics() -> None:
    model = build("yolo").train()
    before = model.backbone.layers[0].norm.running_mean.clone()
    model(seen(model, [scene(0, 2)] * 2))
    assert not torch.equal(model.backbone.layers[0].norm.running_mean, before)


@pytest.mark.parametrize("kind", CFGS)
def test_a_cfg_is_a_checkpoint(darknet: Callable[..., Path], kind: str) -> None:
    cfg = darknet(kind)
    content = load_checkpoint(cfg)
    assert content.classes == ["bright", "dark"]
    model = build_from_checkpoint(content)
    assert model.preprocess == Warp(height=SIZE[0], width=SIZE[1])
    settings = (model.postprocess.score_threshold, model.postprocess.nms_iou)
    assert settings == ((0.001, 0.5) if kind == "detection" else (0.005, 0.45))
    assert dump_weights(model.backbone) == cfg.with_suffix(".weights").read_bytes()
    loaded = detkit.load(cfg, device="cpu")  # with its norms folded
    image = scene(0, 3)[0].permute(1, 2, 0).numpy()
    found = loaded.predict(image)
    with torch.inference_mode():
        (expected,) = model.predict(seen(model, [scene(0, 3)]))
    assert found.names == ["bright", "dark"] and len(found) == len(expected)
    assert torch.allclose(found.boxes, expected.boxes, atol=1e-2)


def test_a_pt_of_it_needs_no_cfg_and_can_be_written_as_one(darknet: Callable[..., Path], tmp_path: Path) -> None:
    cfg = darknet()
    save_checkpoint(tmp_path / "x.pt", read_darknet(cfg))
    weights = cfg.with_suffix(".weights").read_bytes()
    cfg.unlink()
    write_darknet(load_checkpoint(tmp_path / "x.pt"), tmp_path / "back" / "y.cfg")
    assert (tmp_path / "back" / "y.weights").read_bytes() == weights
    assert (tmp_path / "back" / "y.names").read_text() == "bright\ndark\n"
    again = read_darknet(tmp_path / "back" / "y.cfg")
    assert again.classes == ["bright", "dark"]


def test_names_are_found_or_asked_for(darknet: Callable[..., Path], tmp_path: Path) -> None:
    cfg = darknet(names=None)
    assert read_darknet(cfg).classes == ["0", "1"]
    (tmp_path / "other.names").write_text("a\nb\nc\n")
    with pytest.raises(UserError, match=r"yolo\.cfg: it has 2 classes; .*other\.names: 3.*yolo\.names"):
        read_darknet(cfg)
    cfg.with_suffix(".names").write_text("p\nq\n\n")
    assert read_darknet(cfg).classes == ["p", "q"]


def test_faults_of_a_cfg_name_the_file(darknet: Callable[..., Path]) -> None:
    cfg = darknet()
    cfg.write_text(cfg.read_text().replace("[upsample]", "[lstm]"))
    with pytest.raises(UserError, match=r"yolo\.cfg, line 52: Darknet section 8 \[lstm\]: \[lstm\] is not supported"):
        read_darknet(cfg)


def test_a_size_that_the_network_cannot_take_names_the_section(darknet: Callable[..., Path]) -> None:
    cfg = darknet()
    assert detkit.load(cfg, preprocess={"side": 2 * SIZE[0]}).preprocess == Warp(height=2 * SIZE[0], width=2 * SIZE[1])
    with pytest.raises(UserError, match=r"section 9 \[route\]: layers=-1,2 join maps of different sizes"):
        detkit.load(cfg, preprocess={"side": SIZE[0] - 7})
    with pytest.raises(UserError, match=r"layers\.5\.linear\.weight"):
        detkit.load(darknet("detection"), preprocess={"side": 2 * SIZE[0]})


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose(name, list(overrides))


def write_scenes(root: Path, count: int) -> Path:
    """A VOC folder of scenes, all of one class."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        image, target = scene(index, 2)
        Image.fromarray(image.permute(1, 2, 0).numpy().astype(np.uint8)).save(root / f"JPEGImages/{index}.png")
        rows = "".join(
            "<object><name>thing</name><bndbox>"
            + "".join(
                f"<{key}>{value:g}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
            )
            + "</bndbox></object>"
            for box in (target["boxes"] + torch.tensor([1, 1, 0, 0])).tolist()
        )
        (root / f"Annotations/{index}.xml").write_text(f"<annotation>{rows}</annotation>")
    (root / "ImageSets/Main/train.txt").write_text("".join(f"{index}\n" for index in range(count)))
    return root


def test_fine_tuning_keeps_all_but_the_layers_before_the_heads(
    darknet: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg, root = darknet(), write_scenes(tmp_path / "data", 4)
    cfg.write_text(cfg.read_text().replace("[yolo]\n", "[yolo]\njitter=.3\niou_loss=ciou\n"))
    settings = [
        "data=voc", f"data.root={root}", "data.val_split=null", "data.test_split=train", f"finetune={cfg}", "name=x",
        "loader.num_workers=0", "evaluation.num_workers=0", "evaluation.timing_images=0", "evaluation.pictures=0",
        "device=cpu", "logger.tensorboard=false", "trainer.budget=1it", "trainer.eval_every=null", "augment=none",
    ]  # fmt: skip
    train(composed("train", *settings, f"run_dir={tmp_path / 'run'}", "optimizer.lr=0"))
    assert "keys of the .cfg that are not used here: [yolo] jitter" in "".join(capsys.readouterr())
    tuned = load_checkpoint(tmp_path / "run")
    assert tuned.classes == ["thing"] and tuned.preprocess["width"] == SIZE[1]
    before, after = read_darknet(cfg).model, tuned.model
    new = {name for name in before if before[name].shape != after[name].shape}
    assert new == {f"backbone.layers.{index}.conv.{part}" for index in (4, 11) for part in ("weight", "bias")}
    learned = {name for name in before if "running_" not in name and "num_batches" not in name}
    assert all(torch.equal(before[name], after[name]) for name in learned - new)

    cfg.unlink()
    model = build_from_checkpoint(tuned)
    assert [layer.conv.out_channels for layer in (model.backbone.layers[4], model.backbone.layers[11])] == [12, 12]
    write_darknet(tuned, tmp_path / "tuned.cfg")
    sections = read_cfg(tmp_path / "tuned.cfg")
    assert [options["filters"] for _, options in (sections[5], sections[12])] == ["12", "12"]
    evaluated = composed("eval", f"checkpoint={tmp_path / 'tuned.cfg'}", "data=voc", f"data.root={root}", "split=train",
                         f"run_dir={tmp_path / 'eval'}", "device=cpu", "evaluation.num_workers=0",
                         "evaluation.timing_images=0", "evaluation.pictures=0")  # fmt: skip
    assert run_eval(evaluated)["protocol"]["num_objects"] == 8


def test_fine_tuning_does_not_take_a_second_model(
    darknet: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"finetune={darknet()}", f"run_dir={tmp_path / 'run'}", f"hydra.run.dir={tmp_path / 'hydra'}"]
    assert main(["train", *given, "model=faster_rcnn"]) == 2
    assert "yolo.cfg is another model, not the model of model=faster_rcnn" in capsys.readouterr().err


def test_a_cfg_without_data_asks_for_it(darknet: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose data=voc"):
        run_eval(composed("eval", f"checkpoint={darknet()}", f"run_dir={tmp_path / 'eval'}", "device=cpu"))


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"), [("MobileNetV2-YOLOv3-Nano-voc", 0.855), ("MobileNetV2-YOLO-Fastest-voc", 0.609)]
)
def test_published_weights_find_what_they_should(shared_data: Path, tmp_path: Path, name: str, expected: float) -> None:
    cfg = shared_data / "darknet_voc" / f"{name}.cfg"
    config = composed(
        "eval", f"checkpoint={cfg}", "data=voc", f"data.root={shared_data / 'voc2012_100' / 'VOC2012'}",
        f"run_dir={tmp_path}", "evaluation.timing_images=0", "evaluation.pictures=0", "evaluation.num_workers=0",
    )  # fmt: skip
    assert run_eval(config)["voc"]["mAP_area"] == pytest.approx(expected, abs=0.005)


def test_names_and_cfg_of_a_windows_editor_are_read(darknet: Callable[..., Path]) -> None:
    cfg = darknet()
    cfg.with_suffix(".names").write_bytes("eins\r\nzwei\r\n".encode("utf-16"))
    cfg.write_bytes(b"\xef\xbb\xbf# \xd6\xd0\n" + cfg.read_bytes())  # a mark, and a comment in GBK
    assert load_checkpoint(cfg).classes == ["eins", "zwei"]
