"""How often a loss of a one-stage detector waits for the device does not depend on how many images there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scenes import scene, seen
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from detkit.model.detector import Detector

SMALL = "model.backbone.name=resnet10t"
WARPED = ("preprocess.height=96", "preprocess.width=128")
MODELS = {
    "SSD": ("model=ssd_light", SMALL, *WARPED),
    "RetinaNet": ("model=retinanet_light", SMALL, "preprocess.short=96"),
    "FCOS": ("model=fcos", "model/backbone=resnet18", "model.backbone.norm=live", "preprocess.short=96"),
    "YOLO v1": ("model=yolo_v1_light", SMALL, *WARPED),
    "YOLO v2": ("model=yolo_v2_light", SMALL, "preprocess.short=96"),
    "YOLO v3": ("model=yolo_v3_light", SMALL, "preprocess.short=96"),
    "YOLOX": ("model=yolox_nano", "preprocess.size=96"),
}


class Waits(TorchDispatchMode):
    """Counts operators whose result has a size, or is a number, that only the device knows."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        masks = args[1] if name.startswith(("aten.index.", "aten.index_put")) else []
        # a number put at the places of a mask waits for nothing
        number = name.startswith("aten.index_put") and args[2].ndim == 0
        masked = any(isinstance(mask, Tensor) and mask.dtype == torch.bool for mask in masks) and not number
        self.count += masked or name.startswith(("aten.nonzero", "aten._local_scalar_dense", "aten.masked_select"))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize("difficult", [False, True])
def test_waits_do_not_grow_with_the_batch(build: Callable[..., Detector], model: str, difficult: bool) -> None:
    torch.manual_seed(0)
    detector = build(*MODELS[model], num_classes=2).train()
    counts = []
    for size in (2, 6):
        scenes = [scene(seed, 3) for seed in range(size)]
        for _, target in scenes:
            target["difficult"][0] = difficult
        batch = seen(detector, scenes)
        with Waits() as waits:
            detector(batch)
        counts.append(waits.count)
    assert counts[0] == counts[1] > 0
