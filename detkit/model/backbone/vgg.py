"""VGG: plain 3x3 convolutions (Simonyan & Zisserman 2015), the backbone of the original papers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detkit.core.structures import FeatureSpec
from detkit.model.backbone.freeze import freeze
from detkit.model.backbone.pretrained import IMAGENET, IMAGENET_MEAN, IMAGENET_STD, Pretrained, torchvision_model
from detkit.model.backbone.strides import check_strides

CHANNELS = {1: 64, 2: 128, 4: 256, 8: 512, 16: 512, 32: 512}  # stride -> channels, in all of them


class VGG(nn.Module):
    """A torchvision VGG's convolutions up to conv5_3, and pool5 if its map is wanted.

    strides: which maps to return, of 1, 2, 4, 8, 16: each is the last one before the next pooling; 32 is pool5 itself.
    frozen_blocks: how many blocks (conv1_*, conv2_*, ...) do not learn; 2 in the Fast R-CNN papers.
    weights: which of torchvision's, where pretrained is true.
    """

    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self,
        *,
        name: str = "vgg16",
        strides: Sequence[int],
        frozen_blocks: int = 2,
        pretrained: Pretrained = True,
        weights: str = IMAGENET,
    ) -> None:
        super().__init__()
        check_strides(name, strides, list(CHANNELS))
        layers = torchvision_model(name, pretrained=pretrained, weights=weights, key="model.backbone").features
        blocks = [nn.Sequential()]
        for layer in layers if 32 in strides else layers[:-1]:  # a block begins with the pooling before it
            if isinstance(layer, nn.MaxPool2d):
                blocks.append(nn.Sequential())
            blocks[-1].append(layer)
        freeze(blocks[:frozen_blocks])
        self.blocks = nn.ModuleList(blocks)
        self.levels = [stride.bit_length() - 1 for stride in strides]
        self.features = [FeatureSpec(CHANNELS[2**level], 2**level) for level in self.levels]

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for block in self.blocks:
            images = block(images)
            maps.append(images)
        return [maps[level] for level in self.levels]
