"""torchvision's weights in detkit's model give torchvision's boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from detkit.bridge.torchvision import convert_faster_rcnn
from detkit.data.image import read_image
from detkit.errors import UserError
from detkit.types import Batch

NUM_CLASSES = 20


@torch.no_grad()
def spread(model: torch.nn.Module, layer: torch.nn.Module, std: float) -> None:
    """Scale a layer so that its outputs on a noise image vary as those of a trained model do."""
    seen = []
    hook = layer.register_forward_hook(lambda _, __, output: seen.append(output))
    model([torch.rand(3, 320, 320)])
    hook.remove()
    layer.weight.mul_(std / torch.cat([output.flatten() for output in seen]).std())


def theirs() -> torch.nn.Module:
    """A torchvision detector with fixed random weights that finds objects everywhere."""
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1, min_size=320, max_size=533
    ).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.8, 1.2)
    box = model.roi_heads.box_predictor
    spread(model, model.rpn.head.cls_logits, 2.0)
    spread(model, model.rpn.head.bbox_pred, 0.3)
    spread(model, box.cls_score, 2.0)
    spread(model, box.bbox_pred, 1.0)
    return model


def compare(build: Callable, images: list[torch.Tensor]) -> None:
    reference = theirs()
    model = build("model=faster_rcnn_fpn", "preprocess.short=320", "preprocess.max=533", num_classes=NUM_CLASSES).eval()
    model.load_state_dict(convert_faster_rcnn(reference.state_dict()))
    for image in images:
        height, width = image.shape[1:]
        canvas = torch.zeros(1, 3, -(-height // 32) * 32, -(-width // 32) * 32, dtype=torch.uint8)
        canvas[0, :, :height, :width] = image
        with torch.inference_mode():
            (expected,) = reference([image / 255])
            (got,) = model.predict(Batch(canvas, [(height, width)], [(height, width)], ["x"]))
        assert len(got) == len(expected["scores"]) > 10
        assert (got.boxes - expected["boxes"]).abs().max() < 1e-3
        assert (got.scores - expected["scores"]).abs().max() < 1e-5
        assert torch.equal(got.labels, expected["labels"] - 1)


def test_same_boxes_on_noise(build: Callable) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (3, 20, 26), generator=generator, dtype=torch.uint8)
    image = torch.nn.functional.interpolate(image[None].float(), size=(320, 416), mode="bilinear")[0]
    compare(build, [image.round().to(torch.uint8)])


@pytest.mark.real_data
def test_same_boxes_on_five_real_images(build: Callable, shared_data: Path) -> None:
    paths = sorted((shared_data / "voc2012_100" / "VOC2012" / "JPEGImages").glob("*.jpg"))[:5]
    images = []
    for path in paths:
        # resized by torchvision's rule beforehand, so that both models see the same pixels
        image = torch.from_numpy(read_image(path)).permute(2, 0, 1)
        scale = min(320 / min(image.shape[1:]), 533 / max(image.shape[1:]))
        size = [round(side * scale) for side in image.shape[1:]]
        images.append(torch.nn.functional.interpolate(image[None].float(), size, mode="bilinear")[0].round().byte())
    compare(build, images)


def test_a_foreign_weight_is_named() -> None:
    with pytest.raises(UserError, match=r"head\.classification"):
        convert_faster_rcnn({"head.classification.weight": torch.zeros(1)})
