"""A compiled detector finds what it found before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from detkit.core.errors import UserError
from detkit.core.structures import Detections
from detkit.export.parity import difference
from detkit.infer import runtime
from detkit.infer.loaded_detector import LoadedDetector
from detkit.infer.runtime import compiled
from detkit.model.detector import Detector

CPU = torch.device("cpu")


def test_another_word_is_answered_with_the_list(build: Callable[..., Detector]) -> None:
    with pytest.raises(UserError, match=r"runtime=fast: choose one of eager, compiled, onnx"):
        LoadedDetector(build("model=ssd_light"), classes=["a", "b", "c"], runtime="fast")


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"C\+\+ compiler.*runtime=eager"):
        runtime.check_compiler(CPU)


def test_padding_that_depends_on_the_size_is_refused_with_the_fix(build: Callable[..., Detector]) -> None:
    with pytest.raises(UserError, match=r"set preprocess\.pad_multiple=32, or choose runtime=eager"):
        LoadedDetector(
            build("model=retinanet_light", "preprocess.pad_multiple=1"), classes=["a", "b", "c"], runtime="compiled"
        )


def test_one_graph_serves_all_sizes() -> None:
    torch.manual_seed(0)
    part = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True)).eval()
    kernels: list[str] = []
    run = compiled(part.forward, CPU, dynamic=True, first=True)
    torch._dynamo.utils.counters.clear()
    with torch.inference_mode():
        for size in ((64, 64), (96, 64), (32, 160)):
            images = torch.randn(1, 3, *size)
            with torch.profiler.profile() as profile:
                found = run(images)
            kernels = [event.key for event in profile.key_averages()]
            torch.testing.assert_close(found, part(images), rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert "mkldnn::_convolution_pointwise" in kernels, "weights are packed, the activation is in the convolution"


def test_training_goes_on_as_if_nothing_had_been_compiled() -> None:
    part = nn.Linear(2, 2)
    run = compiled(part.forward, CPU, dynamic=True, first=True)
    assert run(torch.ones(1, 2)).requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("model", ["faster_rcnn_light", "rfcn_light", "ssdlite", "retinanet_light", "yolox_light"])
def test_compiled_is_eager_to_a_thousandth_of_a_pixel(build: Callable[..., Detector], model: str) -> None:
    pictures = [np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8) for size in ((200, 300), (320, 250))]

    def found(runtime: str) -> list[Detections]:
        torch.manual_seed(0)
        detector = LoadedDetector(build(f"model={model}"), classes=["a", "b", "c"], runtime=runtime)
        detector.detector.postprocess.score_threshold = 0.0  # type: ignore[union-attr]
        return [*(detector.predict(picture) for picture in pictures), *detector.predict(pictures, batch_size=2)]

    for one, other in zip(found("compiled"), found("eager"), strict=True):
        assert len(other) > 0
        off = difference(other, one, threshold=0.0, most=len(other), box_px=1e-3, score=1e-4)
        assert (off.unmatched, off.box_px <= 1e-3, off.score <= 1e-4) == (0, True, True), off
