"""The recipes for GPUs run on a folder in VOC layout: two steps and an evaluation each, without weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.commands import cli

pytestmark = pytest.mark.slow

PAPER = Path(__file__).resolve().parents[2] / "configs" / "experiment" / "paper"
RECIPES = [*sorted(f"paper/{path.stem}" for path in PAPER.glob("*.yaml")), "modern/yolox_s_voc0712"]
REGIONS = ("model.backbone.pretrained=false", "preprocess.short=96", "proposal_cache.num_workers=0")
VGG = (*REGIONS, "model.box_head.channels=64", "model.box_head.pretrained=null")
RESNET = (*REGIONS, "model.backbone.norm=live")  # the statistics of no weights normalise nothing
SMALLER = {  # by how a recipe is called: what would take minutes here
    "rcnn_": (
        "model.box_head.backbone.pretrained=false", "model.box_head.box_head.channels=64",
        "model.box_head.box_head.pretrained=null",
        "model.proposer.num_proposals=[50,10]", *REGIONS[1:],
    ),
    "fast_rcnn_vgg16": VGG,
    "faster_rcnn_vgg16": VGG,
    "faster_rcnn_resnet": RESNET,
    "rfcn": RESNET,
    "ssd": ("model.backbone.pretrained=false",),
    "yolo_v1": ("model.dense_head.channels=32", "model.dense_head.hidden=32", "preprocess.height=96"),
    "yolo_v2": ("model.neck.channels=32", "preprocess.size=96", "loader.multiscale=[64,96]"),
    "yolox_s": (
        "model.backbone.width=0.125", "model.dense_head.channels=16", "preprocess.size=96", "loader.multiscale=[64,96]",
    ),
    "yolo_v3": ("model.neck.channels=[16,16,16]", "preprocess.size=96", "loader.multiscale=[64,96]"),
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_steps(few_objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    monkeypatch.chdir(tmp_path)
    (smaller,) = (words for name, words in SMALLER.items() if recipe.partition("/")[2].startswith(name))
    words = (
        f"experiment={recipe}", f"data.root={few_objects}", "data.train_split=train", "data.test_split=test",
        "data.classes=null", *smaller, "loader.batch_size=2", "loader.num_workers=0", "trainer.budget=2it",
        "trainer.eval_every=null", "evaluation.timing_images=0", "evaluation.pictures=0", "run_dir=run", "device=cpu",
    )  # fmt: skip
    assert cli.main(["train", *words]) == 0
    assert (tmp_path / "run" / "metrics.json").is_file()
