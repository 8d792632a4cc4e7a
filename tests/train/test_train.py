from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_detector import fake_config

from detkit.checkpoint.content import Position
from detkit.core.errors import UserError
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.train.nan_guard import TrainingDiverged
from detkit.train.train import train


def weights(run: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / name).model


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


EXACT = (
    "trainer.deterministic=true",
    "trainer.budget=11it",
    "trainer.save_every=3it",
    "trainer.ema=0.9",
    "logger.every=1",
)


def test_a_run_leaves_everything_in_its_folder(tiny_voc: Path, tmp_path: Path) -> None:
    config = fake_config(
        tiny_voc, tmp_path, "trainer.budget=2ep", "trainer.eval_every=1ep", "logger.every=2", "logger.tensorboard=true",
        "logger.pictures=1", "evaluation.timing_images=3", "evaluation.pictures=2", "evaluation.proposal_recall=true",
    )  # fmt: skip
    result = train(config)
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert saved.keys() >= {"protocol", "voc", "coco", "timing", "environment", "proposals"}
    assert saved["voc"]["mAP_area"] == result["voc"]["mAP_area"]
    assert list(saved["voc"]["per_class"]) == ["bar", "dot"]
    timing = saved["timing"]
    assert timing["total_ms"].keys() == {"mean", "p50", "p95"}
    assert list(timing["stages_ms"]) == ["decode", "preprocess", "transfer", "backbone", "head", "other"]
    assert timing["batch"] == 1 and timing["images"] == 3 and timing["device"] == "cpu"
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["phase"] == "train"] == [2, 4, 6, 8]
    assert [row["step"] for row in rows if row["phase"] == "val"] == [4, 8]
    assert rows[0].keys() >= {"epoch", "time", "train/loss/box", "train/loss/total", "train/lr", "time/data_wait"}
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert len(predictions) == 3
    assert predictions[0].keys() == {"image_id", "category_id", "bbox", "score"}
    for name in (
        "config.yaml",
        "environment.json",
        "report.html",
        "pictures/001.jpg",
        "plots/precision_recall.png",
        "plots/confusion.png",
        "plots/stages.png",
        "checkpoints/best.pt",
    ):
        assert (tmp_path / name).is_file(), name
    assert list((tmp_path / "tensorboard").iterdir())


def test_checkpoint_holds_what_a_detector_needs_to_be_built(tiny_voc: Path, tmp_path: Path) -> None:
    train(fake_config(tiny_voc, tmp_path, "trainer.budget=2it", "trainer.ema=0.5"))
    content = load_checkpoint(tmp_path)
    assert content.classes == ["bar", "dot"]
    assert content.preprocess["_target_"] == "detkit.image.preprocess.ShortSide"
    assert content.model_config["_target_"] == "fake_detector.build_fake"
    assert content.ema is not None and content.ema.keys() == content.model.keys()
    assert content.position == Position(epoch=0, batch=2, step=2, elapsed_s=content.position.elapsed_s)


def test_loss_falls(tiny_voc: Path, tmp_path: Path) -> None:
    train(fake_config(tiny_voc, tmp_path, "trainer.budget=40it", "logger.every=5", "optimizer.lr=0.02"))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss/total"] for row in rows if row["phase"] == "train"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_after_kill_9_equals_uninterrupted(
    tiny_voc: Path, tmp_path: Path, run_fake: Callable, workers: int
) -> None:
    # 4 steps are an epoch: the process dies in the middle of the third, and goes on from step 9 with other workers
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    died = run_fake(tiny_voc, broken, *EXACT, f"loader.num_workers={workers}", dies_in=11)
    assert died.returncode == -9, died.stderr
    assert load_checkpoint(broken / "checkpoints" / "last.pt").step == 9
    train(fake_config(tiny_voc, whole, *EXACT))
    train(fake_config(tiny_voc, broken, *EXACT, "resume=true", f"loader.num_workers={2 - workers}"))
    assert_same_weights(whole, broken)
    one, other = (load_checkpoint(run / "checkpoints" / "last.pt") for run in (whole, broken))
    assert one.step == other.step == 11
    assert all(torch.equal(one.ema[name], other.ema[name]) for name in one.ema)
    assert one.training.best == other.training.best
    rows = [json.loads(line) for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["phase"] == "train"] == list(range(1, 12))


MIXED = (*EXACT, "multi_image=mosaic", "multi_image.size=32", "multi_image.until=0.6")


def test_the_end_of_a_training_is_without_mosaics(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(fake_config(tiny_voc, tmp_path, *MIXED))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["train/mixed"] for row in rows if row["phase"] == "train"] == [1] * 7 + [0] * 4  # 0.6 of 11 steps
    assert "step 7: from here on every image comes alone (multi_image.until=0.6)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("died_in", [6, 9, 11])  # it goes on from step 3 or 6, mosaics to come, or from 9, after them
def test_resumed_with_mosaics_equals_uninterrupted(
    tiny_voc: Path, tmp_path: Path, run_fake: Callable, died_in: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    died = run_fake(tiny_voc, broken, *MIXED, "loader.num_workers=2", dies_in=died_in)
    assert died.returncode == -9, died.stderr
    train(fake_config(tiny_voc, whole, *MIXED))
    train(fake_config(tiny_voc, broken, *MIXED, "resume=true"))
    assert_same_weights(whole, broken)


def test_resume_names_what_differs(tiny_voc: Path, tmp_path: Path) -> None:
    train(fake_config(tiny_voc, tmp_path / "a", "trainer.budget=2it"))
    changed = fake_config(tiny_voc, tmp_path / "b", "trainer.budget=4it", f"resume={tmp_path / 'a'}", "optimizer.lr=9")
    with pytest.raises(UserError, match=r"optimizer\.lr=9 \(was 0\.0006\)"):
        train(changed)
    longer = fake_config(tiny_voc, tmp_path / "b", "trainer.budget=4it", f"resume={tmp_path / 'a'}")
    train(longer)
    assert load_checkpoint(tmp_path / "a" / "checkpoints" / "last.pt").step == 4
    assert not (tmp_path / "b").exists()


def test_bfloat16_trains(tiny_voc: Path, tmp_path: Path) -> None:
    train(fake_config(tiny_voc, tmp_path, "trainer.budget=3it", "trainer.precision=bf16", "logger.every=1"))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["train/loss/total"] > 0
    assert json.loads((tmp_path / "metrics.json").read_text())["protocol"]["precision"] == "bf16"


def test_accumulating_two_batches_is_one_step(tiny_voc: Path, tmp_path: Path) -> None:
    train(fake_config(tiny_voc, tmp_path, "trainer.budget=2ep", "trainer.accumulate=2"))
    position = load_checkpoint(tmp_path).position
    assert (position.step, position.epoch, position.batch) == (4, 1, 4)


def test_nan_stops_and_names_images_and_term(tiny_voc: Path, tmp_path: Path) -> None:
    config = fake_config(tiny_voc, tmp_path, "trainer.budget=9ep", "trainer.save_every=1it", "model.poison=t3")
    with pytest.raises(TrainingDiverged, match=r"loss/box is not finite(.|\n)*images: .*t3"):
        train(config)
    (batch,) = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    assert "t3" in batch["image_ids"] and batch["images"].dtype == torch.uint8
    last = tmp_path / "checkpoints" / "last.pt"
    if last.is_file():
        assert all(torch.isfinite(tensor).all() for tensor in load_checkpoint(last).model.values())


def test_stops_early_without_improvement(tiny_voc: Path, tmp_path: Path) -> None:
    train(
        fake_config(
            tiny_voc, tmp_path, "trainer.budget=50it", "trainer.eval_every=1it", "trainer.patience=3", "optimizer.lr=0"
        )
    )
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt").step == 4
    assert load_checkpoint(tmp_path).step == 1


def test_a_budget_of_seconds_ends_by_the_clock(tiny_voc: Path, tmp_path: Path) -> None:
    train(fake_config(tiny_voc, tmp_path, "trainer.budget=0.5s", "trainer.save_every=null"))
    assert 0.5 <= load_checkpoint(tmp_path).position.elapsed_s < 5


def test_without_validation_the_last_is_the_best(tiny_voc: Path, tmp_path: Path) -> None:
    train(fake_config(tiny_voc, tmp_path, "trainer.budget=3it", "data.val_split=null"))
    assert load_checkpoint(tmp_path).step == 3
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.budget=ten", "trainer.budget=ten: write a positive number and its unit"),
        ("trainer.best_metric=voc.mAP", "did you mean 'voc.mAP_"),
        ("trainer.precision=fp8", "choose one of fp32, bf16, fp16"),
        ("trainer.precision=fp16", "needs a GPU"),
        ("device=cuda:99", "device=cuda:99"),
        ("resume=nowhere.pt", "no checkpoint nowhere.pt"),
    ],
)
def test_wrong_settings_are_named(tiny_voc: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(fake_config(tiny_voc, tmp_path, "trainer.budget=1it", override))
