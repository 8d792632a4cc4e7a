"""SSD's VGG-16: fc6 and fc7 subsampled into convolutions (Liu et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec
from detkit.model.backbone.freeze import freeze
from detkit.model.backbone.pretrained import IMAGENET, IMAGENET_MEAN, IMAGENET_STD, Pretrained, torchvision_model

CHANNELS = 1024  # of fc6 and fc7, of the 4096 that the classifier has


class L2Norm(nn.Module):
    """Normalise each pixel's channels to length 1, then scale each by a learnt factor (ParseNet, section 3.3)."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.weight[:, None, None]


class SSDVGG(nn.Module):
    """SSD's VGG with two maps: conv4_3 with its L2 norm (stride 8) and fc7 (stride 16).

    pool3 rounds up, so that 300 px give 38 cells. pool5 keeps the size, and fc6 is dilated by 6: it sees as much as
    before. Where pretrained, fc6 and fc7 are thinned from torchvision's classifier.
    strides: always (8, 16). name: vgg16 or another VGG of torchvision with five blocks.
    weights: which of torchvision's, where pretrained is true.
    frozen_blocks: how many blocks (conv1_*, ...) do not learn. mean, std: of the weights, RGB on 0..255.
    """

    def __init__(
        self,
        *,
        name: str = "vgg16",
        strides: Sequence[int] = (8, 16),
        frozen_blocks: int = 0,
        pretrained: Pretrained = True,
        weights: str = IMAGENET,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if list(strides) != [8, 16]:
            raise UserError(
                f"model.strides={list(strides)}: the VGG of SSD has maps at 8 and 16; model/backbone=vgg16 has others"
            )
        with nullcontext() if pretrained else torch.device("meta"):  # 100 million weights that nobody would read
            net = torchvision_model(
                name, pretrained=pretrained, weights=weights, key="model.backbone", with_classifier=True
            )
        if not pretrained:
            start(net.features)
        blocks = [nn.Sequential()]
        for layer in net.features[:-1]:  # a block begins with the pooling before it; pool5 is replaced
            if isinstance(layer, nn.MaxPool2d):
                blocks.append(nn.Sequential())
            blocks[-1].append(layer)
        pool3 = blocks[3][0]
        assert isinstance(pool3, nn.MaxPool2d)
        pool3.ceil_mode = True
        freeze(blocks[:frozen_blocks])
        self.fine = nn.Sequential(*(layer for block in blocks[:4] for layer in block))  # to conv4_3
        self.norm = L2Norm(512, 20)
        fc6 = nn.Conv2d(512, CHANNELS, 3, padding=6, dilation=6)
        fc7 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        if pretrained:
            thin_classifier(net.classifier, fc6, fc7)
        pool5 = nn.MaxPool2d(3, stride=1, padding=1)
        self.coarse = nn.Sequential(*blocks[4], pool5, fc6, nn.ReLU(inplace=True), fc7, nn.ReLU(inplace=True))
        self.features = [FeatureSpec(512, 8), FeatureSpec(CHANNELS, 16)]
        self.mean, self.std = tuple(mean), tuple(std)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.fine(images)
        return [self.norm(fine), self.coarse(fine)]


def start(features: nn.Module) -> None:
    """Initialise VGG's layers, built without memory, with its random weights: in place."""
    features.to_empty(device="cpu")
    for layer in features.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()


@torch.no_grad()
def thin_classifier(classifier: nn.Sequential, fc6: nn.Conv2d, fc7: nn.Conv2d) -> None:
    """Subsample VGG's fc6 and fc7 into two convolutions, every fourth unit and every third pixel: in place.

    classifier: torchvision's, with fc6 [4096, 512 * 7 * 7] first and fc7 [4096, 4096] fourth.
    """
    first, second = classifier[0], classifier[3]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    step = first.out_features // fc6.out_channels
    fc6.weight.copy_(first.weight.view(-1, 512, 7, 7)[::step, :, ::3, ::3])
    fc7.weight.copy_(second.weight[::step, ::step, None, None])
    for conv, linear in ((fc6, first), (fc7, second)):
        if conv.bias is not None:
            conv.bias.copy_(linear.bias[::step])
