"""YOLO by the command line: in two processes of which one sees no object; the recipes of the papers; mosaics."""

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
SMALL = ("model.backbone.name=resnet10t", "model.backbone.pretrained=false")
MODELS = {
    "yolo_v1_light": (*SMALL, "preprocess.height=96", "preprocess.width=96"),
    "yolo_v2_light": (*SMALL, "preprocess.size=96"),
    "yolo_v3_light": (*SMALL, "preprocess.size=96"),
    "yolox_light": (*SMALL, "preprocess.size=96", "mix=mosaic", "loader.sides=[64,96]"),
}
RECIPES = {  # and what would take minutes here
    "yolo_v1": ("model.dense_head.channels=32", "model.dense_head.hidden=32", "preprocess.height=96"),
    "yolo_v2": ("model.neck.channels=32", "preprocess.size=96", "loader.sides=[64,96]"),
    "yolo_v3": ("model.neck.channels=[16,16,16]", "preprocess.size=96", "loader.sides=[64,96]"),
}  # fmt: skip
SHORT = (
    "data.test_split=test", "loader.batch_size=2", "loader.num_workers=0", "trainer.budget=3it",
    "trainer.eval_every=null", "evaluation.timing_images=0", "evaluation.pictures=0", "run_dir=run", "device=cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four training images of which one has objects."""
    root = tmp_path_factory.mktemp("scenes") / "set"
    assert cli.main(["make_synthetic", f"root={root}", "num_train=4", "num_val=1", "num_test=1", "size=[96,128]"]) == 0
    for path in sorted((root / "Annotations").glob("train_*.xml"))[1:]:
        path.write_text(re.sub(r"<object>.*?</object>", "", path.read_text(), flags=re.DOTALL))
    return root


@pytest.mark.parametrize("model", MODELS)
def test_two_processes(root, tmp_path, model):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "detkit.cli",
        "train", f"model={model}", *MODELS[model], "data=voc", f"data.root={root}", *SHORT,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["position"]["step"] == 3
    assert done.stdout.count("written to") == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_of_the_papers(root, tmp_path, monkeypatch, recipe):
    monkeypatch.chdir(tmp_path)
    words = (
        f"experiment=paper/{recipe}_voc0712", f"data.root={root}", "data.train_split=train", "data.classes=null",
        *RECIPES[recipe], *SHORT,
    )  # fmt: skip
    assert cli.main(["train", *words]) == 0
    assert (tmp_path / "run" / "metrics.json").is_file()
