from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from detkit.core.structures import Batch, Detections
from detkit.image.preprocess import Warp
from detkit.infer.execution import Execution
from detkit.model.detector import Detector
from detkit.profiling.roofline import format_profile, matmul_peak, profile_detector, stage_flops
from detkit.profiling.speed import Pipeline, TimedImage

EXECUTION = Execution(torch.device("cpu"), channels_last=False)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(4, 5, 1)
        self.outer = nn.Conv2d(5, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))


class Known(Detector):
    """A detector whose multiplications can be counted by hand: an image has 8 x 16 pixels."""

    stages = ("backbone", "head", "head.inner", "postprocess")

    def __init__(self) -> None:
        super().__init__(num_classes=1, preprocess=Warp(height=8, width=16), mean=(0,) * 3, std=(1,) * 3)
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        self.head = Head()
        self.postprocess = nn.Identity()

    def predict(self, batch: Batch) -> list[Detections]:
        self.postprocess(self.head(self.backbone(self.normalize(batch))))
        return [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))]


@pytest.fixture
def image(tmp_path: Path) -> TimedImage:
    Image.new("RGB", (16, 8)).save(tmp_path / "a.png")
    return TimedImage(str(tmp_path / "a.png"))


def test_operations_are_counted_where_they_happen(image: TimedImage) -> None:
    pixels = 2 * 8 * 16
    wanted = {"backbone": pixels * 27 * 4, "head.inner": pixels * 4 * 5, "head": pixels * 5 * 6, "postprocess": 0}
    assert stage_flops(Pipeline(Known().eval(), EXECUTION), image) == wanted


def test_rates_are_operations_by_time(image: TimedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detkit.profiling.roofline.matmul_peak", lambda *_: 1e9)
    timing = {"stages_ms": {"decode": 1.0, "backbone": 2.0, "head": 1.0, "head.inner": 1.0}, "total_ms": {"mean": 5.0}}
    found = profile_detector(Pipeline(Known().eval(), EXECUTION), [image], timing)
    backbone = 2 * 8 * 16 * 27 * 4
    assert found["stages"]["backbone"]["gflops"] == pytest.approx(backbone / 2e-3 / 1e9)
    assert found["stages"]["backbone"]["of_peak"] == pytest.approx(backbone / 2e-3 / 1e9)
    assert "gflops" not in found["stages"]["decode"]
    assert found["operators"][0]["ms"] >= found["operators"][1]["ms"] > 0
    assert "1 GFLOP/s" in format_profile(found)


def test_the_peak_is_that_of_a_product() -> None:
    assert 1e9 < matmul_peak(EXECUTION) < 1e15
