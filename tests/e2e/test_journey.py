"""The whole journey on the command line: data, train, evaluate, predict, resume, and what a program sees."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import detkit
from detkit.commands import cli

pytestmark = pytest.mark.slow

TINY = (
    "data=synthetic", "data.root=scenes", "data.reader.num_train=8", "data.reader.num_val=4", "data.reader.num_test=4",
    "data.reader.size=[96,128]", "model.backbone.pretrained=false", "preprocess.short=96", "preprocess.max=128",
    "loader.num_workers=0", "loader.batch_size=2", "logger.every=1", "evaluation.timing_images=2",
    "evaluation.timing_warmup=1", "evaluation.pictures=2", "device=cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder in which a tiny detector was trained into the run folder `run`."""
    path = tmp_path_factory.mktemp("journey")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert cli.main(["train", *TINY, "trainer.budget=4it", "hydra.run.dir=run"]) == 0
        yield path


def test_the_run_folder_holds_everything(folder):
    run = folder / "run"
    names = (
        "config.yaml", "environment.json", "metrics.jsonl", "metrics.json", "predictions.json", "report.html",
        "checkpoints/best.pt", "checkpoints/last.pt",
    )  # fmt: skip
    for name in names:
        assert (run / name).is_file(), name
    assert len(list((run / "pictures").glob("*.jpg"))) == 2
    assert list((run / "tensorboard").iterdir())


def test_metrics_have_the_promised_keys(folder):
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics["protocol"]["num_images"] == 4
    assert metrics["protocol"]["preprocess"]["_target_"].startswith("detkit.image.preprocess.")
    assert set(metrics["voc"]["per_class"]) == {"disk", "ring", "square", "star", "triangle"}
    assert {"mAP_11pt", "mAP_area"} <= set(metrics["voc"])
    assert {"AP", "AP50", "AP75", "AR_100"} <= set(metrics["coco"])
    assert {"mean", "p50", "p95"} == set(metrics["timing"]["total_ms"])
    assert {"backbone", "proposer", "roi_head", "postprocess", "other"} <= set(metrics["timing"]["stages_ms"])
    assert metrics["environment"]["versions"]["detkit"] == detkit.__version__


def test_losses_are_logged_at_every_step(folder):
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss/total"] for row in rows if row["phase"] == "train"]
    assert len(losses) == 4
    assert all(math.isfinite(loss) for loss in losses)


def test_eval_takes_the_run_and_gives_the_same_numbers(folder):
    assert cli.main(["eval", "checkpoint=run", "hydra.run.dir=eval", "evaluation.timing_images=0", "device=cpu"]) == 0
    before, after = (json.loads((folder / name / "metrics.json").read_text()) for name in ("run", "eval"))
    assert before["voc"] == after["voc"]
    assert before["coco"] == after["coco"]
    assert "proposals" in after


def test_eval_takes_another_split(folder):
    assert cli.main(["eval", "checkpoint=run", "hydra.run.dir=val", "split=val", "evaluation.timing_images=0"]) == 0
    assert json.loads((folder / "val" / "metrics.json").read_text())["protocol"]["split"].endswith("split=val")


def test_predict_draws_and_writes(folder):
    source = str(folder / "scenes" / "JPEGImages" / "test_*.jpg")
    command = ["predict", "checkpoint=run", f"source={source}", "hydra.run.dir=found", "score_threshold=0.0"]
    assert cli.main([*command, "device=cpu"]) == 0
    rows = json.loads((folder / "found" / "predictions.json").read_text())
    assert len(rows) == 4
    assert len(list((folder / "found" / "pictures").glob("*.jpg"))) == 4


def test_a_program_gets_what_the_command_wrote(folder):
    path = sorted((folder / "scenes" / "JPEGImages").glob("test_*.jpg"))[0]
    detector = detkit.load(folder / "run")
    found = detector.predict(path)
    again = detector.predict([path, path], batch_size=2)
    assert found.names == detector.classes
    torch.testing.assert_close(again[0].boxes, again[1].boxes)
    assert bool((found.scores[:-1] >= found.scores[1:]).all())


def test_resume_goes_on_in_the_same_folder(folder):
    before = (folder / "run" / "checkpoints" / "last.pt").read_bytes()
    command = ["train", *TINY, "trainer.budget=6it", "hydra.run.dir=run", "resume=run"]
    assert cli.main(command) == 0
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["phase"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert (folder / "run" / "checkpoints" / "last.pt").read_bytes() != before


def test_resuming_another_training_is_refused(folder, capsys):
    command = ["train", *TINY, "trainer.budget=6it", "optimizer.lr=1", "resume=run"]
    assert cli.main(command) == 2
    assert "optimizer.lr" in capsys.readouterr().err


def test_the_checker_finds_nothing_in_drawn_scenes(folder):
    splits = ["data.train_split=train", "data.val_split=val", "data.test_split=test"]
    assert cli.main(["check_data", "data=voc", "data.root=scenes", *splits]) == 0


def test_wrong_words_on_the_way_are_answered(folder, capsys):
    assert cli.main(["eval", "checkpoint=nowhere.pt"]) == 2
    assert "nowhere.pt" in capsys.readouterr().err
    assert cli.main(["predict", "checkpoint=run", "source=nothing/*.jpg"]) == 2
    assert "nothing" in capsys.readouterr().err
    assert cli.main(["train", "data=voc", "data.root=/does/not/exist"]) == 2
    assert "/does/not/exist" in capsys.readouterr().err
    assert cli.main(["train", "data=voc"]) == 2
    assert "data.root" in capsys.readouterr().err


def test_multirun_trains_every_value(folder):
    command = ["train", "-m", *TINY, "trainer.budget=1it", "seed=1,2", "evaluation.timing_images=0"]
    assert cli.main(command) == 0
    runs = [path.parent.name for path in Path("outputs/train/sweep").glob("*/*/metrics.json")]
    assert sorted(name.split("_")[0] for name in runs) == ["0", "1"]
