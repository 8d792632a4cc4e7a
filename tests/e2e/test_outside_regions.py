"""Fast R-CNN on the command line: regions computed, kept, evaluated, imported from an RPN; thin layers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import detkit
from detkit.commands import cli

pytestmark = pytest.mark.slow

DATA = (
    "data=synthetic", "data.root=scenes", "data.reader.num_train=6", "data.reader.num_val=2", "data.reader.num_test=2",
    "data.reader.size=[96,128]",
)  # fmt: skip
TINY = (
    *DATA, "model/backbone=resnet18", "model.backbone.pretrained=false", "preprocess.short=96", "loader.num_workers=0",
    "loader.batch_size=2", "evaluation.timing_images=2", "evaluation.timing_warmup=1", "evaluation.pictures=1",
    "device=cpu", "trainer.budget=2it", "model.box_head.pretrained=null", "model.box_head.channels=32",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with a tiny Fast R-CNN in the run folder `run`."""
    path = tmp_path_factory.mktemp("outside")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert cli.main(["train", "model=fast_rcnn", "proposal_cache.num_workers=0", *TINY, "run_dir=run"]) == 0
        yield path


def test_regions_are_computed_once_and_their_seconds_counted(folder):
    assert list((folder / "outputs/proposals/cache").iterdir())
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    timing = metrics["timing"]
    assert timing["stages_ms"]["proposals"] > 0
    assert sum(timing["stages_ms"].values()) > timing["stages_ms"]["proposals"]
    assert timing["total_ms"]["mean"] > timing["stages_ms"]["proposals"]


def test_evaluation_repeats_and_takes_other_regions(folder):
    words = ("checkpoint=run", "evaluation.timing_images=0", "proposal_cache.num_workers=0")
    assert cli.main(["eval", *words, "run_dir=again"]) == 0
    first, again = (json.loads((folder / name / "predictions.json").read_text()) for name in ("run", "again"))
    assert first == again
    assert cli.main(["propose", *DATA, "split=test", "num_workers=0", "output=given", "proposal.max_boxes=50"]) == 0
    assert cli.main(["eval", *words, "proposal=from_file", "proposal.path=given/test.npz", "run_dir=fewer"]) == 0


def test_a_program_proposes_for_any_image(folder):
    detector = detkit.load(folder / "run")
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    detector.predict(image)
    assert len(detector.propose(image)) > 0


def test_thin_layers_are_a_checkpoint_like_any_other(folder):
    assert cli.main(["truncate_svd", "checkpoint=run", "ranks=[16,8]", "run_dir=thin"]) == 0
    assert cli.main(["eval", "checkpoint=thin", "evaluation.timing_images=0", "run_dir=thin_eval"]) == 0
    assert detkit.load(folder / "thin").detector.roi_head.box_head.fc6[0].weight.shape[0] == 16
    assert cli.main(["truncate_svd", "checkpoint=thin", "run_dir=thinner"]) == 2


def test_another_detectors_rpn_proposes(folder):
    assert cli.main(["train", "model=faster_rcnn", *TINY, "evaluation.timing_images=0", "run_dir=faster"]) == 0
    words = ("proposal=rpn", "proposal.checkpoint=faster", "num_workers=0", "output=rpn")
    assert cli.main(["propose", *DATA, "split=test", *words]) == 0
    made = np.load("rpn/test.npz")
    assert len(made["boxes"]) > 0
    faster = detkit.load(folder / "faster")
    image = sorted((folder / "scenes").rglob("*.jpg"))[0]
    assert isinstance(faster.propose(image), torch.Tensor)
