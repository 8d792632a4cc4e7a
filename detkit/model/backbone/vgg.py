"""VGG: plain 3x3 convolutions (Simonyan & Zisserman 2015), the backbone of the original papers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detkit.errors import UserError
from detkit.model.backbone.freeze import freeze
from detkit.model.backbone.pretrained import IMAGENET_MEAN, IMAGENET_STD, Pretrained, torchvision_model
from detkit.types import FeatureSpec


class VGG(nn.Module):
    """The convolutions of a torchvision VGG up to conv5_3, without pool5.

    strides: which maps to return, of 1, 2, 4, 8, 16: each is the last one before the next pooling.
    frozen_blocks: how many blocks (conv1_*, conv2_*, ...) do not learn; 2 in the Fast R-CNN papers.
    """

    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self, *, name: str = "vgg16", strides: Sequence[int], frozen_blocks: int = 2, pretrained: Pretrained = True
    ) -> None:
        super().__init__()
        layers = torchvision_model(name, pretrained=pretrained, key="model.backbone").features
        blocks = [nn.Sequential()]
        for layer in layers[:-1]:  # a block begins with the pooling before it; pool5 is left out
            if isinstance(layer, nn.MaxPool2d):
                blocks.append(nn.Sequential())
            blocks[-1].append(layer)
        freeze(blocks[:frozen_blocks])
        self.blocks = nn.ModuleList(blocks)
        missing = sorted(set(strides) - {2**level for level in range(len(blocks))})
        if missing:
            raise UserError(f"model.strides={list(strides)}: {name} has maps at 1, 2, 4, 8, 16, none at {missing}")
        self.levels = [stride.bit_length() - 1 for stride in strides]
        channels = [max(m.out_channels for m in block if isinstance(m, nn.Conv2d)) for block in blocks]
        self.features = [FeatureSpec(channels[level], 2**level) for level in self.levels]

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for block in self.blocks:
            images = block(images)
            maps.append(images)
        return [maps[level] for level in self.levels]
