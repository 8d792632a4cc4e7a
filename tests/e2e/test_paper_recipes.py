"""The recipes of the R-CNN family run on a folder in VOC layout: two steps and an evaluation each, without weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit import cli

pytestmark = pytest.mark.slow

PAPER = Path(__file__).resolve().parents[2] / "configs" / "experiment" / "paper"
FAMILY = ("rcnn", "fast_rcnn", "faster_rcnn", "rfcn")
RECIPES = sorted(path.stem for path in PAPER.glob("*.yaml") if path.stem.rsplit("_", 1)[0].startswith(FAMILY))
SMALLER = {  # what would take minutes here
    "resnet": ("model.backbone.norm=live",),  # the statistics of no weights normalise nothing
    "vgg16": ("model.tail.channels=64", "model.tail.pretrained=null"),
    "rcnn_": ("model.tail.backbone.pretrained=false", "model.tail.tail.channels=64", "model.tail.tail.pretrained=null"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "set"
    numbers = ("num_train=4", "num_val=1", "num_test=1", "size=[96,128]")
    assert cli.main(["make_synthetic", f"root={root}", *numbers]) == 0
    return root


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_steps(root, tmp_path, monkeypatch, recipe):
    monkeypatch.chdir(tmp_path)
    if recipe.startswith("rcnn_"):
        model = (*SMALLER["rcnn_"], "model.proposer.num_proposals=[50,10]")
    else:
        model = ("model.backbone.pretrained=false", *SMALLER["vgg16" if "vgg16" in recipe else "resnet"])
    words = (
        f"experiment=paper/{recipe}", f"data.root={root}", "data.train_split=train", "data.test_split=test",
        "data.classes=null", *model, "preprocess.short=96", "loader.num_workers=0", "proposing.num_workers=0",
        "trainer.budget=2it", "trainer.eval_every=null", "evaluation.timing_images=0", "evaluation.pictures=0",
        "run_dir=run", "device=cpu",
    )  # fmt: skip
    assert cli.main(["train", *words]) == 0
    assert (tmp_path / "run" / "metrics.json").is_file()
