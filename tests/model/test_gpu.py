"""On a CUDA device: the same detections as on the CPU, and a training step in every precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from detkit.engine.detect import autocast, place_model, to_device
from detkit.model.detector import Detector
from detkit.types import Batch, Target

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
MODELS = ["faster_rcnn_light", "faster_rcnn", "faster_rcnn_fpn"]
SIZE = (320, 416)


def batch() -> Batch:
    target: Target = {
        "boxes": torch.tensor([[40.0, 60, 140, 200]]),
        "labels": torch.tensor([1]),
        "difficult": torch.tensor([False]),
    }
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    empty = {key: value[:0] for key, value in target.items()}  # type: ignore[index]
    return Batch(images, [SIZE] * 2, [SIZE] * 2, ["a", "b"], [target, empty])  # type: ignore[list-item]


@pytest.mark.parametrize("model", MODELS)
def test_same_detections_as_on_the_cpu(build: Callable[..., Detector], model: str) -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    detector = build(f"model={model}", "preprocess.short=320", "preprocess.max=533").eval()
    with torch.inference_mode():
        expected = detector.predict(batch())
        place_model(detector, torch.device("cuda"), channels_last=True)
        found = detector.predict(to_device(batch(), torch.device("cuda"), channels_last=True))
    for a, b in zip(found, expected, strict=True):
        assert len(a) == len(b)
        assert torch.allclose(a.scores.cpu(), b.scores, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_step_in_every_precision(build: Callable[..., Detector], model: str, precision: str) -> None:
    device = torch.device("cuda")
    detector = place_model(build(f"model={model}"), device, channels_last=True).train()
    with autocast(device, precision):
        losses = detector(to_device(batch(), device, channels_last=True))
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None for p in detector.parameters() if p.requires_grad)
