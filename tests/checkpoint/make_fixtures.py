"""Trains the small checkpoints that later versions must open to the same detections: `python make_fixtures.py FOLDER`.

A folder holds what one format looked like. It is made once, by the code that wrote this format, and never again: what
is in `format_1` was written before there was a format 2.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

import detkit
from detkit.checkpoint.darknet.cfg import read_cfg
from detkit.checkpoint.darknet.weights import dump_weights
from detkit.commands import cli
from detkit.data.synthetic.synthetic_scene import draw_scene
from detkit.image.preprocess import Warp
from detkit.model.darknet.detector import build_darknet
from detkit.model.postprocess import NMSPostprocess

SIZE = (96, 128)
CSP = "model/backbone=csp_darknet model.backbone.width=0.03125 model.backbone.depth=0.1"
BRIEF = (
    "optimizer.lr=0.003 loader.num_workers=0 evaluation.timing_images=0 evaluation.pictures=0 device=cpu "
    "trainer.eval_every=null augment=none"
)
MODELS = {
    "faster_rcnn": f"model=faster_rcnn_light {CSP} model.neck.channels=12 model.proposer.channels=12 "
    "model.proposer.anchors.sizes=[[12,20],[32,48],[64,96]] model.box_head.squeeze=4 model.box_head.channels=32 "
    "preprocess=short_side preprocess.short=96 preprocess.max=192",
    "ssd": f"model=ssd_light {CSP} model.neck.channels=12 preprocess.height=96 preprocess.width=128 trainer.ema=0.99",
    "yolox": f"model=yolox_light {CSP} model.neck.channels=[8,12,16] model.dense_head.channels=12 "
    "preprocess=letterbox preprocess.size=128",
    "darknet": "finetune=darknet.cfg",
}
LEAN = ("ssd", "yolox")  # kept without what only a training that goes on needs, as fit_svm writes them: to be small
OF_A_TRAINING = ("optimizer", "scaler", "rng", "metrics", "best")


def conv(filters: int, stride: int = 1) -> str:
    return f"[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize=3\nstride={stride}\npad=1\nactivation=leaky\n"


LAST = "[convolutional]\nfilters=20\nsize=1\nstride=1\npad=1\nactivation=linear\n"
CFG = (
    f"[net]\nwidth={SIZE[1]}\nheight={SIZE[0]}\nchannels=3\n"
    + (conv(8, 2) + conv(12, 2) + conv(16, 2) + conv(24, 2) + LAST)
    + "[yolo]\nmask=0,1\nanchors=20,20, 44,44\nnum=2\nclasses=5\nignore_thresh=.5\n"
)


def detkit_runs(*words: str) -> None:
    if code := cli.main(list(words)):
        raise SystemExit(code)


def make(folder: Path) -> None:
    """Write one `.pt` per model, an `.onnx`, a picture and expected.json, what is found in it, into `folder`."""
    folder.mkdir(parents=True)
    picture = folder / "scene.png"
    Image.fromarray(draw_scene(7, 3, SIZE).image).save(picture)
    torch.manual_seed(0)
    Path("darknet.cfg").write_text(CFG)
    write_random_weights(Path("darknet.cfg"))
    detkit_runs("make_synthetic", "root=set", "num_train=64", "num_val=4", "num_test=4", f"size=[{SIZE[0]},{SIZE[1]}]")
    for name, words in MODELS.items():
        data = "data=voc data.root=set data.test_split=test trainer.budget=600it"
        detkit_runs("train", *words.split(), *BRIEF.split(), *data.split(), f"hydra.run.dir={name}")
        shutil.copyfile(f"{name}/checkpoints/best.pt", folder / f"{name}.pt")
    for name in LEAN:
        path = folder / f"{name}.pt"
        content = torch.load(path, weights_only=True)
        torch.save({key: value for key, value in content.items() if key not in OF_A_TRAINING}, path)
    detkit_runs("export", "checkpoint=ssd", f"output={folder / 'ssd.onnx'}", f"source={picture}", "licence=CC0-1.0")
    (folder / "ssd.parity.json").unlink()
    write_expected(folder)


def write_expected(folder: Path) -> None:
    """Of every file the best 5 to 20 detections: as many as lie above the widest gap between two scores."""
    expected = {}
    for path in sorted([*folder.glob("*.pt"), *folder.glob("*.onnx")]):
        found = detkit.load(path, device="cpu").predict(folder / "scene.png")
        steps = (found.scores[4:20] - found.scores[5:21]).tolist()
        count = 5 + steps.index(max(steps))
        threshold = float(found.scores[count - 1 : count + 1].mean())
        found = found[:count]
        columns = {key: getattr(found, key).tolist() for key in ("boxes", "scores", "labels")}
        expected[path.name] = {"score_threshold": threshold, **columns}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def write_random_weights(cfg: Path) -> None:
    detector = build_darknet(
        sections=read_cfg(cfg),
        postprocess=NMSPostprocess(score_threshold=0.05, nms_iou=0.45),
        num_classes=5,
        preprocess=Warp(height=SIZE[0], width=SIZE[1]),
        revision=2,
    )
    cfg.with_suffix(".weights").write_bytes(dump_weights(detector.backbone))  # type: ignore[arg-type]


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    with TemporaryDirectory() as work:
        os.chdir(work)
        make(target)
