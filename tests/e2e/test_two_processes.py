"""Every system trains in two processes of which one sees no object at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from darknet_nets import CFGS, write_files

from detkit.infer.open_checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RANDOM = ("model.backbone.pretrained=false", "preprocess.short=96")
SMALL = ("model.backbone.name=resnet10t", "model.backbone.pretrained=false")
MODELS = {
    "rcnn_light": (
        "model.box_head.backbone.pretrained=false", "model.roi_pool.size=32", "model.proposer.num_proposals=[50,20]",
        "preprocess.short=96", "proposal_cache.num_workers=0",
    ),
    "fast_rcnn_light": (*RANDOM, "proposal_cache.num_workers=0"),
    "faster_rcnn_light": RANDOM,
    "rfcn_light": RANDOM,
    "ssd_light": (*SMALL, "preprocess.height=96", "preprocess.width=96"),
    "ssdlite": (*SMALL, "preprocess.height=96", "preprocess.width=96"),
    "ssd300": ("model.backbone.name=vgg11_bn", "model.backbone.pretrained=false"),
    "fcos": ("model/backbone=resnet18", "model.backbone.pretrained=false", "preprocess.short=96"),
    "retinanet_light": (*SMALL, "preprocess.short=96"),
    "yolo_v1_light": (*SMALL, "preprocess.height=96", "preprocess.width=96"),
    "yolo_v2_light": (*SMALL, "preprocess.short=96"),
    "yolo_v3_light": (*SMALL, "preprocess.short=96"),
    "yolox_light": (*SMALL, "preprocess.short=96", "multi_image=mosaic", "loader.multiscale=[64,96]"),
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_trains_and_evaluates(few_objects: Path, tmp_path: Path, model: str) -> None:
    train_with_two(few_objects, tmp_path, f"model={model}", *MODELS[model])


@pytest.mark.parametrize("kind", CFGS)
def test_networks_of_darknet_train_and_evaluate(few_objects: Path, tmp_path: Path, kind: str) -> None:
    train_with_two(few_objects, tmp_path, f"finetune={write_files(tmp_path, kind)}", "name=tuned")


def train_with_two(root: Path, folder: Path, *overrides: str) -> None:
    """Three steps in two processes, in `folder`, and what has to be there afterwards."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
        "detkit.commands.cli", "train", *overrides, "data=voc", f"data.root={root}", "data.test_split=test",
        "loader.batch_size=1", "loader.num_workers=0", "trainer.budget=3it", "trainer.eval_every=null",
        "evaluation.timing_images=0", "evaluation.pictures=0", "run_dir=run", "device=cpu",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_checkpoint(folder / "run" / "checkpoints" / "last.pt").step == 3
    assert done.stdout.count("written to") == 1
