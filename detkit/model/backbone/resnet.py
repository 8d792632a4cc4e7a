"""Residual networks (He et al. 2016), whole or cut before the last stage for a box head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from detkit.core.structures import FeatureSpec
from detkit.model.backbone.freeze import Norm, freeze
from detkit.model.backbone.pretrained import IMAGENET, IMAGENET_MEAN, IMAGENET_STD, Pretrained, torchvision_model
from detkit.model.backbone.strides import check_strides

STAGES = {4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}  # stride -> what torchvision calls the stage


class ResNet(nn.Module):
    """A torchvision ResNet up to the coarsest of `strides`, each of which (of 4, 8, 16, 32) gives a map.

    strides (16,) is the C4 trunk: the last stage is left to `detkit.model.box_head.Res5`.
    frozen_stages: 1 freezes the stem, 2 the stem and res2, and so on.
    norm: "frozen" uses the batch statistics of the weights, "live" learns them.
    weights: which of torchvision's, where pretrained is true.
    """

    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self,
        *,
        name: str = "resnet50",
        strides: Sequence[int],
        frozen_stages: int = 2,
        norm: Norm = "frozen",
        pretrained: Pretrained = True,
        weights: str = IMAGENET,
    ) -> None:
        super().__init__()
        check_strides(name, strides, list(STAGES))
        net = torchvision_model(name, pretrained=pretrained, weights=weights, key="model.backbone")
        self.stem = nn.Sequential(OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool))
        self.strides = sorted(strides)
        self.features = []
        for stride, stage in STAGES.items():
            if stride > max(strides):
                break
            layer = getattr(net, stage)
            self.add_module(stage, layer)
            if stride in strides:
                self.features.append(FeatureSpec(_out_channels(layer), stride))
        if norm == "frozen":
            freeze_batch_norm_2d(self)
        if frozen_stages > 0:
            stages = [getattr(self, stage) for stage in STAGES.values() if hasattr(self, stage)]
            freeze([self.stem, *stages[: frozen_stages - 1]])

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        maps = []
        for stride, stage in STAGES.items():
            if stride > self.strides[-1]:
                break
            x = getattr(self, stage)(x)
            if stride in self.strides:
                maps.append(x)
        return maps


def _out_channels(layer: nn.Sequential) -> int:
    """Count the output channels of a stage: those of the last batch norm of its last block."""
    return [m.num_features for m in layer[-1].modules() if isinstance(m, nn.BatchNorm2d)][-1]
