"""Folded batch norms change nothing but the speed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detkit.infer.detect import place_for_inference
from detkit.infer.execution import Execution
from detkit.model.backbone.resnet import ResNet
from detkit.model.backbone.timm_backbone import TimmBackbone
from detkit.model.layers.fold import fold_batch_norm


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: TimmBackbone(strides=[8, 16, 32], frozen_stride=4, pretrained=False),
        lambda: ResNet(name="resnet18", strides=[8, 32], pretrained=False),
        lambda: ResNet(name="resnet18", strides=[16], norm="live", pretrained=False),
    ],
)
def test_same_outputs_without_batch_norms(backbone) -> None:
    torch.manual_seed(0)
    model = backbone().eval()
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = model(images)
    count = sum(hasattr(m, "running_var") for m in model.modules())
    assert len(fold_batch_norm(model, lambda: model(images[:1]))) == count > 10
    assert not any(hasattr(m, "running_var") for m in model.modules())
    with torch.inference_mode():
        for got, want in zip(model(images), expected, strict=True):
            assert torch.allclose(got, want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


def test_a_norm_after_something_else_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert len(fold_batch_norm(model, lambda: model(torch.zeros(1, 3, 4, 4)))) == 0
    assert isinstance(model[2], nn.BatchNorm2d)


@pytest.mark.parametrize(
    "model", ["rcnn_light", "rfcn_light", "ssdlite", "yolo_v2_light", "yolo_v3_light", "yolox_light"]
)
def test_nothing_of_a_detector_is_left_unfolded(build, model) -> None:
    detector = place_for_inference(build(f"model={model}"), Execution(torch.device("cpu"), channels_last=False))
    assert not [name for name, module in detector.named_modules() if hasattr(module, "running_var")]


def test_a_convolution_that_is_run_twice_is_folded_once() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)).eval()
    model[1].running_var.fill_(4)
    image = torch.randn(1, 3, 4, 4)
    expected = model(image)
    assert len(fold_batch_norm(model, lambda: (model(image), model(image)))) == 1
    assert torch.allclose(model(image), expected, atol=1e-6)


def test_norms_that_share_a_convolution_stay() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norms = nn.Conv2d(3, 3, 1), nn.ModuleList([nn.BatchNorm2d(3), nn.BatchNorm2d(3)])

        def forward(self, x):
            return [norm(self.conv(x)) for norm in self.norms]

    model = Shared().eval()
    assert len(fold_batch_norm(model, lambda: model(torch.zeros(1, 3, 4, 4)))) == 0
