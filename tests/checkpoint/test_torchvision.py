"""torchvision's weights in detkit's models give torchvision's boxes, for every architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torchvision.models import get_model

from detkit.checkpoint.build import build_detector, build_from_checkpoint, build_preprocess
from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.torchvision.architecture import ARCHITECTURES
from detkit.checkpoint.torchvision.convert import by_name, convert, recognise
from detkit.checkpoint.torchvision.read_torchvision import COCO, import_state, read_torchvision
from detkit.core.errors import UserError
from detkit.core.structures import Batch, Detections
from detkit.image.preprocess import ShortSide
from detkit.image.read import read_image
from detkit.infer.loaded_detector import load
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.model.backbone.mobilenet import MobileNetV3
from detkit.model.two_stage import TwoStageDetector

NUM_CLASSES = 20
NAMES = [architecture.name for architecture in ARCHITECTURES]
# what to spread: class scores and box offsets, by their std on an image
SPREAD = {
    "ssd": {"head.classification_head": 2.0, "head.regression_head": 1.0},
    "ssdlite": {"head.classification_head": 2.0, "head.regression_head": 0.3},
    "retinanet": {"head.classification_head.cls_logits": 2.0, "head.regression_head.bbox_reg": 0.3},
    "fcos": {"head.classification_head.cls_logits": 2.0, "head.regression_head.bbox_ctrness": 2.0},
    "fasterrcnn": {
        "rpn.head.cls_logits": 2.0, "rpn.head.bbox_pred": 0.3,
        "roi_heads.box_predictor.cls_score": 2.0, "roi_heads.box_predictor.bbox_pred": 1.0,
    },
}  # fmt: skip


@torch.no_grad()
def spread(model: nn.Module, layer: nn.Module, std: float, image: Tensor) -> None:
    """Scale a layer, or the last convolutions of a list, so that outputs on an image vary as a trained model's do."""
    seen: dict[nn.Module, list[Tensor]] = {}
    parts = [layer]
    if hasattr(layer, "module_list"):
        parts = [one[-1] if isinstance(one, nn.Sequential) else one for one in layer.module_list]
    hooks = [p.register_forward_hook(lambda m, _, output: seen.setdefault(m, []).append(output)) for p in parts]
    model([image / 255])
    for part, hook in zip(parts, hooks, strict=True):
        hook.remove()
        part.weight.mul_(std / torch.cat([output.flatten() for output in seen[part]]).std())


def theirs(name: str, image: Tensor) -> Any:
    """A torchvision detector with fixed random weights that finds objects everywhere in an image."""
    torch.manual_seed(0)
    sizes = {} if name.startswith("ssd") else {"min_size": 320, "max_size": 533}
    model = get_model(name, weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1, **sizes).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.8, 1.2)
    if "mobilenet" in name:
        rescale(model, image)
    for layer, std in SPREAD[name.partition("_")[0].removesuffix("300").removesuffix("320")].items():
        spread(model, model.get_submodule(layer), std, image)
    if name.startswith("fcos"):
        model.head.regression_head.bbox_reg.bias.data.fill_(3)
    if name.startswith(("retinanet", "fcos")):  # as trained: nothing is ever labelled background
        bias = model.head.classification_head.cls_logits.bias
        bias.data.view(-1, NUM_CLASSES + 1)[:, 0] = -30
    return model


@torch.no_grad()
def rescale(model: nn.Module, image: Tensor) -> None:
    """Batch statistics of pictures, so that signals neither die nor explode on their way through the layers."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
    # very unlike each other: where a map has one cell, its variance is that between images
    model([image / 255, 1 - image / 255, torch.rand(3, 320, 320), torch.zeros(3, 320, 400)])
    for norm in norms:
        norm.eval()


def assert_same(reference: Any, images: Sequence[Tensor], content: Checkpoint) -> None:
    model = build_from_checkpoint(content)
    precise = isinstance(model.backbone, MobileNetV3)
    if precise:
        in_float64(reference.backbone, reference.backbone)
        in_float64(model.backbone, model.neck)  # type: ignore[arg-type]
        if isinstance(model, TwoStageDetector):
            for part in (reference.rpn.head, reference.roi_heads.box_head, reference.roi_heads.box_predictor):
                in_float64(part, part)
            for part in (model.proposer.head, model.roi_head.box_head, model.roi_head.predictor):
                in_float64(part, part)
        model.pixel_mean, model.pixel_std = model.pixel_mean.double(), model.pixel_std.double()
    for image in images:
        height, width = size = (image.shape[1], image.shape[2])
        seen = image.double() / 255 if precise else image / 255
        if isinstance(model.preprocess, ShortSide):
            canvas = torch.zeros(1, 3, -(-height // 32) * 32, -(-width // 32) * 32, dtype=torch.uint8)
            canvas[0, :, :height, :width] = image
        else:  # both see one warped picture
            warped = torch.from_numpy(model.preprocess(image.permute(1, 2, 0).numpy())).permute(2, 0, 1)
            size, canvas, seen = (warped.shape[1], warped.shape[2]), warped[None], warped.to(seen.dtype) / 255
        with torch.inference_mode():
            (expected,) = reference([seen])
            (got,) = model.predict(Batch(canvas, [size], [size], ["x"]))
        assert_same_detections(got, expected, model.postprocess.max_detections)


def in_float64(first: nn.Module, last: nn.Module) -> None:
    """Let the network from `first` to `last` calculate in float64 and give float32: in place.

    With random weights MobileNetV3 multiplies the rounding of its input by thousands.
    """
    for module in (first, last):
        module.double()
    first.register_forward_pre_hook(lambda _, inputs: tree_map_only(Tensor, Tensor.double, inputs))
    last.register_forward_hook(lambda _, __, outputs: tree_map_only(Tensor, Tensor.float, outputs))


def assert_same_detections(got: Detections, expected: dict[str, Tensor], most: int) -> None:
    """Each of theirs is one of ours, whatever the order of those whose scores are equal up to rounding."""
    # a box that was clipped to nothing is a detection of theirs only
    large = ((expected["boxes"][:, 2:] - expected["boxes"][:, :2]) >= 0.01).all(dim=1)
    boxes, scores, labels = (expected[key][large] for key in ("boxes", "scores", "labels"))
    assert len(scores) > 10
    assert len(got) == len(scores) or (len(large) == most and len(got) >= len(scores))
    same = (got.boxes[None] - boxes[:, None]).abs().amax(dim=2) < 1e-3
    same &= (got.scores[None] - scores[:, None]).abs() < 1e-5
    same &= got.labels[None] == labels[:, None] - 1
    found = same.any(dim=1)
    if len(large) == most:  # which of equals is the last is chance
        found |= (scores - expected["scores"].min()).abs() < 1e-5
    assert found.all(), f"{int((~found).sum())} of {len(found)} are missing"
    assert len(set(same.int().argmax(dim=1)[same.any(dim=1)].tolist())) == int(same.any(dim=1).sum())


def at_320(content: Checkpoint) -> Checkpoint:
    """Smaller images than the config has, which a preprocess that keeps the aspect allows."""
    if "short" not in content.preprocess:
        return content
    return replace(content, preprocess={**content.preprocess, "short": 320, "max": 533})


def noise_image() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (3, 20, 26), generator=generator, dtype=torch.uint8)
    image = nn.functional.interpolate(image[None].float(), size=(320, 416), mode="bilinear")[0]
    return image.round().to(torch.uint8)


@pytest.mark.parametrize(
    "name", [n if n.startswith("ssdlite") else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_same_boxes_on_noise(name: str) -> None:
    reference = theirs(name, noise_image())
    assert_same(reference, [noise_image()], at_320(import_state(reference.state_dict(), architecture=by_name(name))))


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", NAMES)
def test_same_boxes_on_five_real_images(name: str, shared_data: Path) -> None:
    images = []
    for path in sorted((shared_data / "voc2012_100" / "VOC2012" / "JPEGImages").glob("*.jpg"))[:5]:
        # resized by torchvision's rule beforehand, so that both models see the same pixels
        image = torch.from_numpy(read_image(path)).permute(2, 0, 1)
        scale = min(320 / min(image.shape[1:]), 533 / max(image.shape[1:]))
        size = [round(side * scale) for side in image.shape[1:]]
        images.append(nn.functional.interpolate(image[None].float(), size, mode="bilinear")[0].round().byte())
    reference = theirs(name, images[0])
    assert_same(reference, images, at_320(import_state(reference.state_dict(), architecture=by_name(name))))


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_is_recognised_and_fits(name: str) -> None:
    with torch.device("meta"):
        state = get_model(name, weights=None, weights_backbone=None, num_classes=4).state_dict()
    found = recognise(state, f"{name}-0123abcd.pth")
    assert found is not None and found.name == name
    content = import_state(state, architecture=found, classes=["a", "b", "c"])
    with torch.device("meta"):
        detector = build_detector(content.model_config, 3, build_preprocess(content.preprocess))
    ours = {key: value.shape for key, value in detector.state_dict().items()}
    assert {key: value.shape for key, value in content.model.items() if key in ours} == ours
    assert all(key.endswith("num_batches_tracked") for key in content.model if key not in ours)


def test_published_weights_have_the_classes_of_coco() -> None:
    architecture = by_name("ssdlite320_mobilenet_v3_large")
    with torch.device("meta"):
        state = get_model(architecture.name, weights=None, weights_backbone=None, num_classes=91).state_dict()
    content = import_state(state)
    assert len(content.classes) == 80 and content.classes[0] == "person" and "N/A" not in content.classes
    assert content.model["dense_head.logit.0.1.bias"].shape == (6 * 81,)
    assert COCO[13] == "stop sign" and content.classes[11] == "stop sign"


def test_a_file_of_weights_is_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=4)
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "model_3.pth")
    content = load_checkpoint(tmp_path / "model_3.pth")
    assert content.classes == ["0", "1", "2"]
    (tmp_path / "model_3.names").write_text("cat\ndog\nbird\n")
    detector = load(tmp_path / "model_3.pth", device="cpu")
    assert detector.classes == ["cat", "dog", "bird"]
    found = detector.predict(np.zeros((40, 60, 3), np.uint8))
    assert found.boxes.shape == (len(found), 4)


def test_only_the_file_tells_a_sister_of_other_sizes(tmp_path: Path) -> None:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    state = get_model(name, weights=None, weights_backbone=None, num_classes=3).state_dict()
    short = {}
    for stem in (name, "mine"):
        torch.save(state, tmp_path / f"{stem}.pth")
        content = load_checkpoint(tmp_path / f"{stem}.pth")
        short[stem] = content.preprocess["short"], content.model_config["proposer"]["post_nms"][1]
    assert short == {name: (320, 150), "mine": (800, 1000)}


def test_classes_are_columns() -> None:
    architecture = by_name("retinanet_resnet50_fpn")
    bias = torch.arange(9 * 4.0)  # anchor by anchor: background and three classes
    state = {
        "head.classification_head.cls_logits.bias": bias,
        "head.regression_head.bbox_reg.bias": torch.zeros(36),
    }
    whole = convert(architecture, state)["dense_head.logit.bias"]
    assert whole.tolist() == [v for v in bias.tolist() if v % 4 != 0]
    some = convert(architecture, state, columns=[1, 3])["dense_head.logit.bias"]
    assert some.tolist() == [v for v in bias.tolist() if v % 4 in (1, 3)]


def test_names_from_before_torchvision_0_12() -> None:
    state = {
        "head.classification_head.conv.4.weight": torch.zeros(1),
        "head.regression_head.conv.6.bias": torch.zeros(1),
        "head.classification_head.cls_logits.bias": torch.zeros(18),
        "head.regression_head.bbox_reg.bias": torch.zeros(36),
    }
    names = set(convert(by_name("retinanet_resnet50_fpn"), state))
    assert {"dense_head.class_tower.2.0.weight", "dense_head.box_tower.3.0.bias"} <= names
    state = {"rpn.head.conv.weight": torch.zeros(1), "roi_heads.box_predictor.cls_score.bias": torch.zeros(3)}
    assert "proposer.head.conv.0.weight" in convert(by_name("fasterrcnn_resnet50_fpn"), state)


def test_norms_of_published_weights_divide_by_the_variance_itself() -> None:
    norm = nn.BatchNorm2d(3).eval()
    norm.running_var.uniform_(0.01, 2)
    state = {"backbone.body.bn1.running_var": norm.running_var, "roi_heads.box_predictor.cls_score.bias": torch.ones(3)}
    converted = convert(by_name("fasterrcnn_resnet50_fpn"), state, exact_norms=True)
    x = torch.randn(1, 3, 4, 4)
    ours = nn.BatchNorm2d(3).eval()
    ours.running_var.copy_(converted["backbone.stem.bn1.running_var"])
    published = nn.BatchNorm2d(3).eval()
    published.running_var.copy_(norm.running_var)
    published.eps = 0.0
    assert torch.allclose(ours(x), published(x), rtol=1e-5)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(UserError, match=r"head\.classification"):
        convert(
            by_name("fasterrcnn_resnet50_fpn"),
            {"roi_heads.box_predictor.cls_score.bias": torch.zeros(3), "head.classification.weight": torch.zeros(1)},
        )
    with pytest.raises(UserError, match="no detector of torchvision"):
        import_state({"layer1.weight": torch.zeros(1)})
    with pytest.raises(UserError, match="maskrcnn is none of"):
        read_torchvision("maskrcnn")
    with pytest.raises(UserError, match="2 class names for ssdlite320_mobilenet_v3_large with 3 classes"):
        with torch.device("meta"):
            state = get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=4)
        import_state(state.state_dict(), classes=["a", "b"])
