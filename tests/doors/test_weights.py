"""Weights: resuming, fine-tuning, files of others, backbones, parts of one's own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from doors import Door
from omegaconf import OmegaConf
from torchvision.models import get_model

from detkit.commands import cli
from detkit.infer.open_checkpoint import load_checkpoint

BEST = Path("RUN/checkpoints/best.pt")
DATA = "data=voc data.root=D data.test_split=test"
PRETRAINED = f"train QUICK {DATA} model.backbone.name=resnet10t optimizer.lr=0"


def rename(*pairs: tuple[str, str]) -> Callable[[Path], None]:
    """Other names for classes of `D`, in its annotations."""

    def write(folder: Path) -> None:
        for path in (folder / "D" / "Annotations").iterdir():
            text = path.read_text()
            for before, after in pairs:
                text = text.replace(f"<name>{before}</name>", f"<name>{after}</name>")
            path.write_text(text)

    return write


def add_class(folder: Path) -> None:
    """Objects of a sixth class, named first, in one picture of every split."""
    for path in (folder / "D" / "Annotations").iterdir():
        text = path.read_text()
        box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
        extra = f"<object><name>aardvark</name>{box}</object>"
        path.write_text(text.replace("</annotation>", f"{extra}</annotation>"))


def rows_are_kept(folder: Path, _: str) -> None:
    """After steps without learning the rows of every class that both know are alike, whatever its number."""
    before = torch.load(folder / BEST, weights_only=True)
    after = torch.load(folder / "tuned" / "checkpoints" / "best.pt", weights_only=True)
    known, compared = [name for name in after["classes"] if name in before["classes"]], 0
    for name, value in after["model"].items():
        if name.startswith("dense_head.logit"):
            rows = [
                content["model"][name].unflatten(0, (-1, len(content["classes"]) + 1)) for content in (before, after)
            ]
            for word in known:
                old, new = (r[:, 1 + c["classes"].index(word)] for r, c in zip(rows, (before, after), strict=True))
                assert torch.equal(old, new), (name, word)
                compared += 1
            assert torch.equal(rows[0][:, 0], rows[1][:, 0])
        elif "running" not in name and "num_batches" not in name:
            assert torch.equal(value, before["model"][name]), name
    assert compared == len(known) * 8 and len(known) >= 4


def content_of_run(folder: Path, **changes: Any) -> None:
    """`own.pt`: the checkpoint of `RUN`, with changes; what is None is left out."""
    content = torch.load(folder / BEST, weights_only=True) | changes
    torch.save({key: value for key, value in content.items() if value is not None}, folder / "own.pt")


def with_own_backbone(folder: Path) -> None:
    config = dict(load_checkpoint(folder / "RUN").config)
    config["model"]["backbone"] = {"_target_": "mynet.TinyNet", "_partial_": True}
    content_of_run(folder, config=config)


def with_own_reader(folder: Path) -> None:
    config = dict(load_checkpoint(folder / "RUN").config)
    config["data"]["reader"] = {"_target_": "mynet.read", "_partial_": True}
    content_of_run(folder, config=config)


def renamed_weights(pattern: str, folder: Path) -> None:
    content = torch.load(folder / BEST, weights_only=True)
    content_of_run(folder, ema=None, model={pattern.format(name): v for name, v in content["model"].items()})


def as_before(folder: Path, _: str) -> None:
    before, after = (load_checkpoint(folder / run).model for run in ("RUN", "tuned"))
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name.startswith("dense_head"))


def torchvision_file(wrap: Callable[[dict[str, Any]], Any], folder: Path) -> None:
    """`x.pth`, of an SSDLite of torchvision with two classes, and a picture."""
    torch.manual_seed(0)
    net = get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=3)
    torch.save(wrap(net.state_dict()), folder / "x.pth")
    (folder / "x.names").write_text("cat\ndog\n")


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch exploded",))


def not_run(folder: Path, _: str) -> None:
    assert not (folder / "exploded").exists()


def nothing_is_trained(folder: Path, output: str) -> None:
    assert "steps on" not in output and not (folder / "tuned" / "checkpoints" / "last.pt").exists()


def backbone_file(folder: Path) -> None:
    torch.manual_seed(0)
    torch.save({"state_dict": timm.create_model("resnet10t").state_dict()}, folder / "resnet10t.pth")
    torch.save(timm.create_model("resnet14t").state_dict(), folder / "resnet14t.pth")


def backbone_is_that_of_the_file(folder: Path, _: str) -> None:
    given = torch.load(folder / "resnet10t.pth", weights_only=True)["state_dict"]
    own = torch.load(folder / "tuned" / "checkpoints" / "best.pt", weights_only=True)["model"]
    assert torch.equal(own["backbone.net.layer3.0.conv1.weight"], given["layer3.0.conv1.weight"])


def darknet_files(folder: Path) -> None:
    from darknet_nets import write_files  # found by pytest, and not where README.md is written

    write_files(folder, "region")


def exported(folder: Path) -> None:
    pytest.importorskip("onnxscript")
    assert cli.main(["export", f"checkpoint={folder}/RUN", f"output={folder}/RUN.onnx", "images=1", "repeats=1"]) == 0


def sizes_are_those_of_the_checkpoint(folder: Path, _: str) -> None:
    config = OmegaConf.load(folder / "tuned" / "config.yaml")
    assert config.name == "ssd_light_tuned"
    assert config.multi_image.size == config.preprocess.height == 64
    sizes = {(one.height, one.width) for one in config.augment.transforms if "height" in one}
    assert sizes == {(64, 64)}


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


TUNE = f"train QUICK {DATA} hydra.run.dir=tuned optimizer.lr=0"
FINETUNE = (
    f"train finetune=RUN {DATA} hydra.run.dir=tuned trainer.budget=1it loader.batch_size=2 loader.num_workers=0 "
    "evaluation.timing_images=0 evaluation.pictures=0 device=cpu optimizer.lr=0 optimizer.weight_decay=0"
)
DOORS = [
    Door(
        kind="resume after the data got other class names, as many as before",
        source="ultralytics/yolov5 #2109, #410",
        given="RUN, D with disk renamed to zebra",
        command=f"train QUICK {DATA} trainer.budget=4it resume=RUN",
        code=2,
        says="the classes of the data are not those that it was trained for (gone: disk; new: zebra)\nfinetune=",
        needs=("D", "RUN"),
        make=rename(("disk", "zebra")),
    ),
    Door(
        kind="resume after a class was added to the data",
        given="RUN, D with a class more",
        command=f"train QUICK {DATA} trainer.budget=4it resume=RUN",
        code=2,
        says="not those that it was trained for (new: aardvark)",
        needs=("D", "RUN"),
        make=add_class,
    ),
    Door(
        kind="resume= a file of torchvision",
        source="near mmdetection #4579",
        given="x.pth",
        command=f"train QUICK {DATA} resume=x.pth",
        code=2,
        says="x.pth is not a checkpoint of a training (it has no optimizer,\nuse finetune=",
        needs=("D",),
        make=partial(torchvision_file, dict),
    ),
    Door(
        kind="resume= a Darknet .cfg",
        source="near mmdetection #4579",
        given="region.cfg, region.weights",
        command=f"train QUICK {DATA} resume=region.cfg",
        code=2,
        says="region.cfg is not a checkpoint of a training\nuse finetune=",
        needs=("D",),
        make=darknet_files,
    ),
    Door(
        kind="resume= an exported file",
        source="near mmdetection #4579",
        given="RUN",
        command=f"train QUICK {DATA} resume=RUN.onnx",
        code=2,
        says="RUN.onnx is not a checkpoint of a training\nuse finetune=",
        needs=("D", "RUN"),
        make=exported,
        slow=True,
    ),
    Door(
        kind="fine-tune on other classes, as many as before",
        source="lightly-ai/lightly-train #985; ultralytics PR #25051",
        given="RUN, D with disk renamed to zebra",
        command=FINETUNE,
        code=0,
        says="starts from RUN; rows kept: ring, square, star, triangle; new: zebra; dropped: disk",
        needs=("D", "RUN"),
        make=rename(("disk", "zebra")),
        check=rows_are_kept,
    ),
    Door(
        kind="continue from best.pt with one class more",
        source="ultralytics #3304, #1983; yolov5 #2109",
        given="RUN, D with a class that sorts first",
        command=FINETUNE,
        code=0,
        says="starts from RUN; rows kept: disk, ring, square, star, triangle; new: aardvark",
        needs=("D", "RUN"),
        make=add_class,
        check=rows_are_kept,
    ),
    Door(
        kind="fine-tune with an experiment of another model",
        source="near mmdetection #2424",
        given="RUN, which is an SSD",
        command=f"train experiment=modern/faster_rcnn_bccd finetune=RUN {DATA} hydra.run.dir=tuned",
        code=2,
        says="finetune=RUN is ssd_light, not the model of experiment=modern/faster_rcnn_bccd\n(with model=faster_rc",
        needs=("D", "RUN"),
        check=nothing_is_trained,
    ),
    Door(
        kind="fine-tune with another model in the command",
        given="RUN, which is an SSD",
        command=f"train model=yolox_nano finetune=RUN {DATA} hydra.run.dir=tuned",
        code=2,
        says="finetune=RUN is ssd_light, not the model of model=yolox_nano",
        needs=("D", "RUN"),
        check=nothing_is_trained,
    ),
    Door(
        kind="fine-tune with another backbone",
        given="RUN",
        command=f"train model/backbone=resnet18 finetune=RUN {DATA} hydra.run.dir=tuned",
        code=2,
        says="finetune=RUN: its weights are not those of a model with model.backbone._target_=\n"
        "drop model/backbone=resnet18: a fine-tuning takes its model from the checkpoint",
        needs=("D", "RUN"),
        check=nothing_is_trained,
    ),
    Door(
        kind="fine-tune at another image size, with a frozen backbone",
        source="ultralytics/yolov5 #2158, #1314; ultralytics #11189",
        given="RUN, of 64 px",
        command=f"{FINETUNE} preprocess.height=96 model.backbone.frozen_stride=32",
        code=0,
        says="new: none; other settings than there\nfrozen_stride=32 (was 4)\npreprocess.height=96 (was 64)",
        needs=("D", "RUN"),
        check=as_before,
    ),
    Door(
        kind="fine-tune with an augmentation and mosaics, which ask for the size of the pictures",
        given="RUN, a warp of 64 px",
        command=f"{FINETUNE} augment=ssd multi_image=mosaic",
        code=0,
        says="starts from RUN; rows kept: disk, ring, square, star, triangle; new: none",
        needs=("D", "RUN"),
        check=sizes_are_those_of_the_checkpoint,
    ),
    Door(
        kind="fine-tune with an augmentation for other frames",
        given="RUN",
        command=f"{FINETUNE} augment=ssd preprocess=letterbox",
        code=2,
        says="Interpolation key 'preprocess.height' not found: choose parts that go together",
        needs=("D", "RUN"),
        check=nothing_is_trained,
    ),
    Door(
        kind="fine-tune with a key that the model has not",
        given="RUN, which is an SSD",
        command=f"{FINETUNE} model.proposer.positive_iou=0.6",
        code=2,
        says="model.proposer.positive_iou=0.6: the model of finetune=RUN has no model.proposer.positive_iou",
        needs=("D", "RUN"),
        check=nothing_is_trained,
    ),
    Door(
        kind="fine-tune with a value that makes other weights",
        given="RUN",
        command=f"{FINETUNE} model.neck.channels=32",
        code=2,
        says="its weights are not those of a model with model.neck.channels=32 (was 96)\nnot in the checkpoint: neck.",
        needs=("D", "RUN"),
        check=nothing_is_trained,
    ),
    Door(
        kind="weights saved from DataParallel",
        given="own.pt: RUN with module. before all names",
        command=FINETUNE.replace("finetune=RUN", "finetune=own.pt"),
        code=0,
        says="starts from own.pt; rows kept: disk, ring, square, star, triangle; new: none",
        needs=("D", "RUN"),
        make=partial(renamed_weights, "module.{}"),
        check=as_before,
        slow=True,  # tests/train/test_finetune.py holds it, too
    ),
    Door(
        kind="weights that fit nowhere",
        given="own.pt: RUN with names of another network",
        command=FINETUNE.replace("finetune=RUN", "finetune=own.pt"),
        code=2,
        says="finetune=own.pt: 0 of \nare they of another model?",
        needs=("D", "RUN"),
        make=partial(renamed_weights, "features.{}"),
        check=nothing_is_trained,
    ),
    Door(
        kind="a checkpoint of one's own of which a key is missing",
        given="own.pt: RUN without preprocess",
        command="predict checkpoint=own.pt source=D/JPEGImages",
        code=2,
        says="own.pt is no whole checkpoint: preprocess, how images become its input, is missing",
        needs=("D", "RUN"),
        make=partial(content_of_run, preprocess=None),
    ),
    Door(
        kind="torchvision weights in the wrappings of other trainings",
        source="Detectron.pytorch #89; TubeDETR #5",
        given="x.pth: model_state_dict, names with module.model.",
        command="predict checkpoint=x.pth source=D/JPEGImages device=cpu pictures=false hydra.run.dir=out",
        code=0,
        says="12 images",
        needs=("D",),
        make=partial(
            torchvision_file, lambda state: {"model_state_dict": {f"module.model.{k}": v for k, v in state.items()}}
        ),
        slow=True,  # tests/core/test_weight_file.py holds it, too
    ),
    Door(
        kind="the file of torchvision's own training script, with its args",
        given="x.pth: model, optimizer, args (a Namespace), epoch",
        command="predict checkpoint=x.pth source=D/JPEGImages device=cpu pictures=false hydra.run.dir=out",
        code=0,
        says="12 images",
        needs=("D",),
        make=partial(
            torchvision_file,
            lambda state: {
                "model": state,
                "optimizer": {},
                "args": argparse.Namespace(lr=0.02),
                "epoch": 1,
            },
        ),
    ),
    Door(
        kind="weights without the model that they are of",
        given="x.pth: a state dict of a classifier",
        command="predict checkpoint=resnet10t.pth source=D/JPEGImages",
        code=2,
        says="of no detector of torchvision that is known here\nmodel.backbone.pretrained=FILE",
        needs=("D",),
        make=backbone_file,
    ),
    *(
        Door(
            kind=f"a file of weights that is {what}",
            given="x.pth",
            command="predict checkpoint=x.pth source=D/JPEGImages",
            code=2,
            says=says,
            needs=("D",),
            make=make,
            check=not_run,
        )
        for what, make, says in [
            ("a pointer of Git LFS", write("x.pth", b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
            ("a web page", write("x.pth", b"<!DOCTYPE html><html>404</html>"), "x.pth is a web page"),
            ("empty", write("x.pth", b""), "x.pth is empty"),
            ("something else", write("x.pth", b"\x89PNG\r\n\x1a\n" * 9), "x.pth is not a detkit checkpoint"),
            ("a folder", lambda folder: (folder / "x.pth").mkdir(), "no checkpoint in x.pth"),
            ("code", lambda folder: torch.save({"model": Code()}, folder / "x.pth"), "and no code of a file is run"),
        ]
    ),
    Door(
        kind="a file of safetensors that is cut off",
        given="x.safetensors",
        command="train finetune=x.safetensors",
        code=2,
        says="x.safetensors is no whole file of safetensors",
        make=write("x.safetensors", b"\x40\x00\x00\x00\x00\x00\x00\x00{"),
    ),
    Door(
        kind="a .weights file in place of its .cfg",
        given="region.cfg, region.weights",
        command="predict checkpoint=region.weights source=D/JPEGImages",
        code=2,
        says="give the .cfg of the network",
        needs=("D",),
        make=darknet_files,
    ),
    Door(
        kind="ImageNet weights of the backbone from a local file",
        source="datapink/robosat.pink #95; IDEA-Research/DINO #187; super-gradients #1880",
        given="resnet10t.pth",
        command=f"{PRETRAINED} model.backbone.pretrained=resnet10t.pth hydra.run.dir=tuned",
        code=0,
        says="written to",
        needs=("D",),
        make=backbone_file,
        check=backbone_is_that_of_the_file,
    ),
    Door(
        kind="backbone weights of another network",
        given="resnet14t.pth",
        command=f"{PRETRAINED} model.backbone.pretrained=resnet14t.pth hydra.run.dir=tuned",
        code=2,
        says="model.backbone.pretrained=resnet14t.pth holds no weights of resnet10t",
        needs=("D",),
        make=backbone_file,
        check=nothing_is_trained,
    ),
    Door(
        kind="backbone weights from a file that is not there",
        given="",
        command=f"{PRETRAINED} model.backbone.pretrained=imagenet hydra.run.dir=tuned",
        code=2,
        says="model.backbone.pretrained=imagenet is no file\ngive true, false or a file of weights",
        needs=("D",),
        check=nothing_is_trained,
    ),
    Door(
        kind="a checkpoint with a backbone of one's own",
        source="mmdetection #6596, #6792, #5856; detectron2 #1356, #1781, #3999",
        given="own.pt: backbone mynet.TinyNet",
        command="eval checkpoint=own.pt",
        code=2,
        says="model.backbone._target_=mynet.TinyNet\nadd trust=[mynet]",
        needs=("D", "RUN"),
        make=with_own_backbone,
    ),
    Door(
        kind="a backbone of one's own that is trusted and not found",
        given="own.pt: backbone mynet.TinyNet, not on PYTHONPATH",
        command="predict checkpoint=own.pt source=D/JPEGImages trust=[mynet]",
        code=2,
        says="mynet cannot be imported (No module named 'mynet'): put the folder that it is in on PYTHONPATH",
        needs=("D", "RUN"),
        make=with_own_backbone,
    ),
    Door(
        kind="a checkpoint with a reader of one's own",
        given="own.pt: reader mynet.read",
        command="eval checkpoint=own.pt evaluation.num_workers=0",
        code=2,
        says="the checkpoint reads its data with mynet.read (or choose data=... yourself)\nadd trust=[mynet]",
        needs=("D", "RUN"),
        make=with_own_reader,
    ),
]


@pytest.mark.parametrize(
    "door",
    [pytest.param(door, id=door.kind, marks=[pytest.mark.slow] if door.slow else []) for door in DOORS],
)
def test_door(door: Door, walk: Callable[[Door], str]) -> None:
    walk(door)
