"""Every system trains in two processes of which one sees no object at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detkit.engine.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RANDOM = ("model.backbone.pretrained=false", "preprocess.short=96")
SMALL = ("model.backbone.name=resnet10t", "model.backbone.pretrained=false")
MODELS = {
    "rcnn_light": (
        "model.tail.backbone.pretrained=false", "model.roi_pool.size=32", "model.proposer.num_proposals=[50,20]",
        "preprocess.short=96", "proposing.num_workers=0",
    ),
    "fast_rcnn_light": (*RANDOM, "proposing.num_workers=0"),
    "faster_rcnn_light": RANDOM,
    "rfcn_light": RANDOM,
    "ssd_light": (*SMALL, "preprocess.height=96", "preprocess.width=96"),
    "retinanet_light": (*SMALL, "preprocess.short=96"),
    "yolo_v1_light": (*SMALL, "preprocess.height=96", "preprocess.width=96"),
    "yolo_v2_light": (*SMALL, "preprocess.size=96"),
    "yolo_v3_light": (*SMALL, "preprocess.size=96"),
    "yolox_light": (*SMALL, "preprocess.size=96", "mix=mosaic", "loader.sides=[64,96]"),
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_trains_and_evaluates(few_objects: Path, tmp_path: Path, model: str) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "detkit.cli",
        "train", f"model={model}", *MODELS[model], "data=voc", f"data.root={few_objects}", "data.test_split=test",
        "loader.batch_size=1", "loader.num_workers=0", "trainer.budget=3it", "trainer.eval_every=null",
        "evaluation.timing_images=0", "evaluation.pictures=0", "run_dir=run", "device=cpu",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["position"]["step"] == 3
    assert done.stdout.count("written to") == 1
