from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from detkit.core.structures import Batch, Detections
from detkit.image.preprocess import ShortSide
from detkit.infer.execution import Execution
from detkit.model.detector import Detector
from detkit.profiling import speed, timing
from detkit.profiling.speed import TimedImage, measure_speed, measure_together

EXECUTION = Execution(torch.device("cpu"), channels_last=False)


class Clock:
    """Time that passes only where a part says so, by `advance`."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Part(nn.Module):
    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += self.seconds
        return x


class Sleeper(Detector):
    """Spends `backbone` seconds in a stage and `rest` seconds outside of any; notes what it was given."""

    stages = ("backbone",)

    def __init__(self, clock: Clock, backbone: float, rest: float, log: list[tuple[str, Batch]], name: str) -> None:
        super().__init__(num_classes=1, preprocess=ShortSide(short=16, max=32), mean=(0,) * 3, std=(1,) * 3)
        self.backbone, self.rest = Part(clock, backbone), Part(clock, rest)
        self.log, self.name = log, name

    def predict(self, batch: Batch) -> list[Detections]:
        self.log.append((self.name, batch))
        self.rest(self.backbone(batch.images))
        return [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (speed, timing):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    found = [str(tmp_path / f"{index}.png") for index in range(5)]
    for path in found:
        Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(path)
    return found


def test_totals_and_stages_add_up(clock: Clock, paths: list[str]) -> None:
    detector = Sleeper(clock, 0.03, 0.01, [], "a")
    found = measure_speed(detector, [TimedImage(path) for path in paths], EXECUTION, warmup=2, max_seconds=99)
    assert found["total_ms"] == pytest.approx({"mean": 40, "p50": 40, "p95": 40})
    wanted = {"decode": 0, "preprocess": 0, "transfer": 0, "backbone": 30, "other": 10}
    assert found["stages_ms"] == pytest.approx(wanted)
    assert list(found["stages_ms"]) == list(wanted)
    assert found["stage_gap"] == 0
    assert (found["images"], found["warmup"], found["batch"], found["passes"]) == (5, 2, 1, 1)


def test_proposals_from_outside_are_mapped_and_their_seconds_counted(clock: Clock, paths: list[str]) -> None:
    log: list[tuple[str, Batch]] = []
    images = [TimedImage(path, torch.tensor([[1.0, 2, 3, 4]]), 0.5) for path in paths]
    found = measure_speed(Sleeper(clock, 0.03, 0.01, log, "a"), images, EXECUTION, warmup=1, max_seconds=99)
    assert found["total_ms"]["p50"] == pytest.approx(540)
    assert list(found["stages_ms"]) == ["decode", "preprocess", "transfer", "proposals", "backbone", "other"]
    assert found["stages_ms"]["proposals"] == pytest.approx(500)
    assert log[0][1].proposals[0].tolist() == [[2, 4, 6, 8]]  # the short side of 8 became 16


def test_proposals_are_computed_in_the_timed_pass_of_the_whole_picture(clock: Clock, paths: list[str]) -> None:
    log: list[tuple[str, Batch]] = []
    seen = []

    def propose(image: np.ndarray) -> np.ndarray:
        clock.now += 0.2
        seen.append(image.shape)
        return np.array([[1, 2, 3, 4]], np.float32)

    images = [TimedImage(path, torch.zeros(0, 4), 9.0, propose) for path in paths]  # what was recorded is not used
    found = measure_speed(Sleeper(clock, 0.03, 0.01, log, "a"), images, EXECUTION, warmup=1, max_seconds=99)
    assert found["total_ms"]["p50"] == pytest.approx(240) and found["regions"] == "computed"
    assert found["stages_ms"]["proposals"] == pytest.approx(200) and found["stages_ms"]["preprocess"] == 0
    assert set(seen) == {(8, 16, 3)} and log[0][1].proposals[0].tolist() == [[2, 4, 6, 8]]


def test_an_unknown_time_of_proposals_is_no_time(clock: Clock, paths: list[str]) -> None:
    images = [TimedImage(path, torch.tensor([[1.0, 2, 3, 4]])) for path in paths]
    found = measure_speed(Sleeper(clock, 0.03, 0.01, [], "a"), images, EXECUTION, warmup=1, max_seconds=99)
    assert found["regions"] == "unknown" and "proposals" not in found["stages_ms"]
    assert found["total_ms"]["p50"] == pytest.approx(40)


def test_models_take_turns_and_the_median_pass_counts(clock: Clock, paths: list[str]) -> None:
    log: list[tuple[str, Batch]] = []
    detectors = {name: Sleeper(clock, seconds, 0, log, name) for name, seconds in (("a", 0.02), ("b", 0.2))}
    slow = iter([9.0])

    def disturbed(module: nn.Module, inputs: object) -> None:  # once, in the second of three passes
        clock.now += next(slow, 0.0) if len(log) == 2 + 4 * 5 + 1 else 0.0

    detectors["a"].backbone.register_forward_pre_hook(disturbed)
    found = measure_together(
        detectors,
        {name: [TimedImage(path) for path in paths] for name in detectors},
        EXECUTION,
        warmup=1,
        max_seconds=99,
        passes=3,
    )
    assert [name for name, _ in log[:10]] == ["a", "b", "a", "a", "b", "b", "a", "a", "b", "b"]
    assert next(slow, None) is None, "the disturbance has happened"
    assert found["a"]["total_ms"]["p95"] == pytest.approx(20) and found["a"]["stages_ms"]["backbone"] == pytest.approx(
        20
    )
    assert found["b"]["total_ms"]["p50"] == pytest.approx(200)


def test_a_slow_model_decides_on_how_many_images_all_are_timed(clock: Clock, paths: list[str]) -> None:
    detectors = {"quick": Sleeper(clock, 0.1, 0, [], "quick"), "slow": Sleeper(clock, 50, 0, [], "slow")}
    found = measure_together(
        detectors,
        {name: [TimedImage(path) for path in paths] for name in detectors},
        EXECUTION,
        warmup=4,
        max_seconds=60,
        passes=2,
    )
    assert (found["quick"]["images"], found["slow"]["images"]) == (3, 3)  # the same
    assert (found["quick"]["warmup"], found["slow"]["warmup"]) == (4, 2)
