"""On a CUDA device: the same detections as on the CPU, and a training step in every precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scenes import enlarged, scene, seen

from detkit.infer.execution import Execution
from detkit.model.detector import Detector

DEVICE = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
MODELS = [
    "rcnn_light", "fast_rcnn_light", "faster_rcnn_light", "faster_rcnn", "faster_rcnn_fpn", "rfcn_light",
    "ssd_light", "ssdlite", "retinanet_light", "fcos", "yolo_v1_light", "yolo_v2_light", "yolo_v3_light", "yolox_light",
]  # fmt: skip
SCENES = [enlarged(scene(0, 3), 3), enlarged(scene(1, 0), 3)]


@pytest.mark.parametrize("model", MODELS)
def test_same_detections_as_on_the_cpu(build: Callable[..., Detector], model: str) -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    detector = build(f"model={model}").eval()
    batch = seen(detector, SCENES)
    with torch.inference_mode():
        expected = detector.predict(batch)
        Execution(DEVICE).place_model(detector)
        found = detector.predict(Execution(DEVICE).place(batch))
    for a, b in zip(found, expected, strict=True):
        a = a.to("cpu")
        same = (a.boxes[:, None] - b.boxes).abs().amax(dim=2) <= 0.1
        same &= ((a.scores[:, None] - b.scores).abs() <= 1e-3) & (a.labels[:, None] == b.labels)
        # of two boxes with nearly one score, NMS may keep the other, and then what that one covers
        assert same.any(dim=1).sum() >= 0.9 * len(a) and same.any(dim=0).sum() >= 0.9 * len(b)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_step_in_every_precision(build: Callable[..., Detector], model: str, precision: str) -> None:
    execution = Execution(DEVICE, precision)
    detector = execution.place_model(build(f"model={model}")).train()
    with execution.autocast():
        losses = detector(execution.place(seen(detector, SCENES)))
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None for p in detector.parameters() if p.requires_grad)
