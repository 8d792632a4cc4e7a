from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from noise_voc import write_voc
from timm.layers import BatchNormAct2d, freeze_batch_norm_2d
from torch import nn

from detkit.core.distributed import World, choose_device, sync_batch_norm
from detkit.core.errors import UserError
from detkit.infer.open_checkpoint import load_checkpoint


def test_one_process_is_a_world() -> None:
    world = World(0, 1, torch.device("cpu"))
    assert world.is_main
    assert world.gather(3) == [3] and world.broadcast("x") == "x" and world.mean({"a": 2.0}) == {"a": 2.0}
    assert world.any(True) and not world.any(False)
    model = torch.nn.Linear(1, 1)
    assert world.wrap(model) is model


def test_device_names() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="device=gpu"):
        choose_device("gpu")


def test_batch_norms_are_synchronised_but_not_frozen_ones_nor_in_one_process() -> None:
    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), BatchNormAct2d(4), freeze_batch_norm_2d(nn.BatchNorm2d(4))
        )

    alone = network()
    assert sync_batch_norm(alone, World(0, 1, torch.device("cpu"))) is alone
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in alone.modules())
    names = network().state_dict().keys()
    found = sync_batch_norm(network(), World(0, 2, torch.device("cuda")))
    assert [isinstance(module, nn.SyncBatchNorm) for module in found] == [False, True, True, False]
    assert isinstance(found[2].act, nn.ReLU) and found.state_dict().keys() == names
    with pytest.raises(UserError, match=r"trainer\.sync_batchnorm=true works on GPUs"):
        sync_batch_norm(network(), World(0, 2, torch.device("cpu")))


@pytest.mark.slow
def test_the_learning_rate_follows_the_number_of_processes(tiny_voc: Path, tmp_path: Path, run_fake: Callable) -> None:
    done = run_fake(
        tiny_voc, tmp_path / "run", "trainer.budget=1it", "trainer.accumulate=3", "loader.batch_size=1",
        "optimizer.lr=0.01", "+optimizer.per_images=2", "schedule.warmup=0", "logger.every=1", processes=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    line = "learning rate 0.03 for 6 images a step (1 images x 3 batches x 2 processes): 0.01 is for 2"
    assert line in done.stderr.splitlines()[:10], done.stderr[:3000]
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert max(group["lr"] for group in saved.training.optimizer["param_groups"]) == pytest.approx(0.03)


@pytest.mark.slow
def test_two_processes_train_and_evaluate_though_one_sees_no_object(tmp_path: Path, run_fake: Callable) -> None:
    # batches of one in an order that the seed fixes; objects only in images that process 0 gets: index 1 and 3
    root = write_voc(
        tmp_path / "data",
        {"a": [], "b": [("dot", (2, 2, 30, 30), False)], "c": [], "d": [("dot", (5, 5, 40, 30), False)]},
    )
    write_voc(root, {"e": [("dot", (2, 2, 30, 30), False)], "f": [], "g": []}, "val")
    done = run_fake(
        root, tmp_path / "run", "trainer.budget=6it", "trainer.eval_every=3it", "trainer.accumulate=2",
        "loader.batch_size=1", processes=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert saved.step == 6 and saved.processes == 2
    assert done.stdout.count("written to") == 1
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told["protocol"]["num_images"] == 3 and told["protocol"]["num_detections"] == 3
    found = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert sorted(row["image_id"] for row in found) == ["e", "f", "g"]


@pytest.mark.slow
def test_resumed_with_two_processes_equals_uninterrupted(tiny_voc: Path, tmp_path: Path, run_fake: Callable) -> None:
    common = ("trainer.deterministic=true", "trainer.save_every=3it")
    for run, steps in (("whole", 8), ("parts", 5), ("parts", 8)):
        resume = ("resume=true",) if run == "parts" and steps == 8 else ()
        done = run_fake(
            tiny_voc, tmp_path / run, *common, *resume, f"trainer.budget={steps}it", "schedule=constant", processes=2
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, other = (load_checkpoint(tmp_path / run / "checkpoints" / "last.pt").model for run in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_an_error_on_one_process_ends_all(tiny_voc: Path, tmp_path: Path, run_fake: Callable) -> None:
    done = run_fake(
        tiny_voc, tmp_path / "run", "trainer.budget=20it", "model.poison=t3", "loader.batch_size=1", processes=2
    )
    assert done.returncode != 0
    assert "loss/box is not finite" in done.stderr and "t3" in done.stderr
