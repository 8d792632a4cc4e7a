"""Every system of the R-CNN family trains in two processes of which one sees no object at all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detkit import cli
from detkit.engine.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MODELS = {
    "rcnn_light": (
        "model.tail.backbone.pretrained=false", "model.roi_pool.size=32", "model.proposer.num_proposals=[50,20]",
    ),
    "fast_rcnn_light": ("model.backbone.pretrained=false",),
    "faster_rcnn_light": ("model.backbone.pretrained=false",),
    "rfcn_light": ("model.backbone.pretrained=false",),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four training images of which one has objects."""
    root = tmp_path_factory.mktemp("scenes") / "set"
    assert cli.main(["make_synthetic", f"root={root}", "num_train=4", "num_val=1", "num_test=1", "size=[96,128]"]) == 0
    for path in sorted((root / "Annotations").glob("train_*.xml"))[1:]:
        path.write_text(re.sub(r"<object>.*?</object>", "", path.read_text(), flags=re.DOTALL))
    return root


@pytest.mark.parametrize("model", MODELS)
def test_trains_and_evaluates(root, tmp_path, model):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "detkit.cli",
        "train", f"model={model}", *MODELS[model], "data=voc", f"data.root={root}", "data.test_split=test",
        "preprocess.short=96", "loader.batch_size=1", "loader.num_workers=0", "proposing.num_workers=0",
        "trainer.budget=3it", "trainer.eval_every=null", "evaluation.timing_images=0", "evaluation.pictures=0",
        "run_dir=run", "device=cpu",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["position"]["step"] == 3
    assert done.stdout.count("written to") == 1
