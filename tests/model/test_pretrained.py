"""Weights of a backbone from a file: those of the network itself, in any wrapping, and no others."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from detkit.core.errors import UserError
from detkit.model.backbone.darknet import Darknet
from detkit.model.backbone.origin import Origin, record_origins, timm_file
from detkit.model.backbone.pretrained import torchvision_model, weight_path
from detkit.model.backbone.resnet import ResNet
from detkit.model.backbone.timm_backbone import TimmBackbone
from detkit.model.box_head import RegionCNN, TwoFC


def same(part: nn.Module, reference: nn.Module) -> bool:
    own, given = part.state_dict(), reference.state_dict()
    return all(torch.equal(own[name], given[name]) for name in own if "num_batches" not in name)


@pytest.fixture
def resnet(tmp_path: Path) -> tuple[Path, Any]:
    net = torchvision.models.resnet18()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}, tmp_path / "r.pth"
    )
    return tmp_path / "r.pth", net


def test_torchvision(resnet: tuple[Path, Any]) -> None:
    path, net = resnet
    backbone: Any = ResNet(name="resnet18", strides=[8, 32], pretrained=str(path), norm="live")
    assert same(backbone.layer4, net.layer4) and same(backbone.stem.bn1, net.bn1)


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto"])
def test_timm(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=7)  # of a training of one's own
    save_file(net.state_dict(), tmp_path / "x.safetensors")
    backbone = TimmBackbone(name=name, strides=[8, 16], pretrained=str(tmp_path / "x.safetensors"))
    wanted = {tuple(value.shape): value for value in net.state_dict().values() if value.ndim > 1}
    loose = [v for v in backbone.state_dict().values() if v.ndim > 1 and tuple(v.shape) not in wanted]
    values = [value for value in net.state_dict().values() if value.ndim > 1]
    for value in backbone.state_dict().values():
        if value.ndim > 1:
            assert any(value.shape == one.shape and torch.equal(value, one) for one in values)
    assert not loose and not caplog.records
    assert "state_dict" not in backbone.net.default_cfg and "state_dict" not in backbone.net.pretrained_cfg


def test_a_classifier_is_free_where_nobody_reads_it(tmp_path: Path) -> None:
    name, path = "mobilenet_v3_small", tmp_path / "v.pth"
    net = torchvision.models.get_model(name, num_classes=3)
    torch.save(net.state_dict(), path)
    whole = torchvision_model(name, pretrained=str(path), key="k", with_classifier=True)
    assert same(whole.features, net.features) and same(whole.classifier[0], net.classifier[0])
    torch.save({key: value for key, value in net.state_dict().items() if key.startswith("features.")}, path)
    assert same(torchvision_model(name, pretrained=str(path), key="k").features, net.features)
    with pytest.raises(UserError, match=r"k\.pretrained=.*v\.pth holds no weights of mobilenet.* fit, classifier\.0\."):
        torchvision_model(name, pretrained=str(path), key="k", with_classifier=True)


@pytest.mark.slow
def test_layers_of_a_vgg(tmp_path: Path) -> None:
    net = torchvision.models.vgg11(num_classes=3)
    torch.save(net.state_dict(), tmp_path / "v.pth")
    head: Any = TwoFC(in_channels=512, size=7, channels=4096, name="vgg11", pretrained=str(tmp_path / "v.pth"))
    assert same(head.fc6, net.classifier[0]) and same(head.fc7, net.classifier[3])
    with pytest.raises(UserError, match=r"vgg11 has a layer of \[4096, 25088\] where the box head has \[64, 25088\]"):
        TwoFC(in_channels=512, size=7, channels=64, name="vgg11", pretrained=str(tmp_path / "v.pth"))


def test_a_network_behind_the_crops(resnet: tuple[Path, Any]) -> None:
    path, net = resnet

    def part(**shapes: Any) -> ResNet:
        return ResNet(name="resnet18", pretrained=str(path), norm="live", **shapes)

    assert same(RegionCNN(in_channels=3, size=224, backbone=part).backbone.layer4, net.layer4)


def test_other_networks_are_refused(resnet: tuple[Path, Any], tmp_path: Path) -> None:
    path, _ = resnet
    for name in ("resnet34", "resnet50"):
        with pytest.raises(UserError, match=rf"r\.pth holds no weights of {name}: \d+ of \d+ fit, "):
            torchvision_model(name, pretrained=str(path), key="k")
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "larger.pth")  # which has all that resnet18 has
    with pytest.raises(UserError, match=r"holds no weights of resnet18: 100 of 100 fit, layer1\.2"):
        torchvision_model("resnet18", pretrained=str(tmp_path / "larger.pth"), key="k")
    with pytest.raises(UserError, match="holds no weights of resnet10t"):
        TimmBackbone(name="resnet10t", strides=[8], pretrained=str(path))


def test_tails_of_other_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="only a VGG has fc6 and fc7, resnet18 has not"):
        TwoFC(in_channels=512, size=7, name="resnet18", pretrained=True)


def test_words_that_are_no_files(tmp_path: Path) -> None:
    assert [weight_path(value, "k") for value in (True, False, None)] == [None] * 3
    for value, told in (("imagenet", "k=imagenet is no file"), (str(tmp_path), "is a folder")):
        with pytest.raises(UserError, match=told):
            weight_path(value, "k")
    (tmp_path / "x.pth").write_text("<html>")
    with pytest.raises(UserError, match=r"k\.pretrained: .*x\.pth is a web page"):
        torchvision_model("resnet18", pretrained=str(tmp_path / "x.pth"), key="k")


def test_darknet_takes_its_own_files_alone(resnet: tuple[Path, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pretrained=true: there are none of darknet19"):
        Darknet(name="darknet19", strides=[4], pretrained=True)
    with pytest.raises(UserError, match="it does not begin with a version"):
        Darknet(name="darknet19", strides=[4], pretrained=str(resnet[0]))
    with pytest.raises(UserError, match="pretrained=nowhere is no file"):
        Darknet(name="darknet19", strides=[4], pretrained="nowhere")
    header = torch.tensor([0, 1, 0, 0], dtype=torch.int32).numpy().tobytes()
    (tmp_path / "other.weights").write_bytes(header + torch.randn(200_000).mul(0.05).numpy().tobytes())
    with pytest.raises(UserError, match=r"other\.weights is of another network: it would have a variance of -"):
        Darknet(name="darknet19", strides=[4], pretrained=str(tmp_path / "other.weights"))


def test_published_weights_are_those_that_are_named() -> None:
    """Unknown ones, and those for images prepared in another way, are refused before anything is fetched."""
    with pytest.raises(UserError, match=r"k\.weights=V9 is not published: resnet50 has IMAGENET1K_V1, IMAGENET1K_V2"):
        torchvision_model("resnet50", pretrained=True, weights="V9", key="k")
    with pytest.raises(UserError, match=r"k\.weights=IMAGENET1K_FEATURES is for images prepared in another way"):
        torchvision_model("vgg16", pretrained=True, weights="IMAGENET1K_FEATURES", key="k")


def test_torchvision_is_asked_for_the_weights_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    make = torchvision.models.get_model
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: asked.append(weights) or make(name))
    ResNet(name="resnet18", strides=[16])
    ResNet(name="resnet50", strides=[16], weights="IMAGENET1K_V2")
    assert asked == ["IMAGENET1K_V1", "IMAGENET1K_V2"]


def test_what_the_parts_begin_from_is_recorded(resnet: tuple[Path, Any]) -> None:
    path, _ = resnet
    with record_origins() as origins:
        ResNet(name="resnet18", strides=[16], pretrained=str(path))
        ResNet(name="resnet18", strides=[16], pretrained=False)
    ResNet(name="resnet18", strides=[16], pretrained=str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert origins == [Origin("model.backbone", str(path), digest)]
    assert str(origins[0]) == f"model.backbone begins from {path}, sha256 {digest[:12]}"


def test_the_network_on_the_regions_is_recorded_by_its_place(resnet: tuple[Path, Any]) -> None:
    backbone = partial(ResNet, name="resnet18", pretrained=str(resnet[0]))
    with record_origins() as origins:
        RegionCNN(in_channels=3, size=64, backbone=backbone)
    assert [origin.part for origin in origins] == ["model.box_head.backbone"]


def test_timm_says_which_weights_it_has() -> None:
    weights, _ = timm_file("resnet10t")
    assert weights == "resnet10t.c3_in1k of timm"
