"""torchvision's MobileNetV3-Large with the maps that its detectors read (Howard et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec
from detkit.model.backbone.freeze import Norm, freeze
from detkit.model.backbone.pretrained import IMAGENET, IMAGENET_MEAN, IMAGENET_STD, Pretrained, torchvision_model

C5 = 13  # the first block of stride 32


class MobileNetV3(nn.Module):
    """MobileNetV3-Large with one of two pairs of maps, by `strides`.

    (16, 32): of SSDLite (section 6.3): the expansion inside the first block of stride 32, before it shrinks the map,
    and the last layer. (32, 32): of Faster R-CNN with a pyramid: that block and the last layer.
    reduced_tail: half the channels from that block on, for which there are no ImageNet weights.
    norm: "frozen" uses the batch statistics of the weights, "live" learns them. norm_eps: of their variance.
    weights: which of torchvision's, where pretrained is true.
    frozen_blocks: how many of the 17 layers do not learn. mean, std: of the weights, RGB on 0..255.
    For maps of other strides take any timm model (model/backbone=timm).
    """

    def __init__(
        self,
        *,
        strides: Sequence[int],
        reduced_tail: bool = False,
        norm: Norm = "live",
        norm_eps: float = 0.001,
        frozen_blocks: int = 0,
        pretrained: Pretrained = True,
        weights: str = IMAGENET,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if list(strides) not in ([16, 32], [32, 32]):
            raise UserError(
                f"model.strides={list(strides)}: backbone=mobilenet_v3 has the maps [16, 32] and [32, 32]; take "
                "model/backbone=timm model.backbone.name=mobilenetv3_large_100 for others"
            )
        if pretrained and reduced_tail:
            raise UserError("model.backbone.reduced_tail=true has no ImageNet weights: set pretrained=false")
        layers = torchvision_model(
            "mobilenet_v3_large",
            pretrained=pretrained,
            weights=weights,
            key="model.backbone",
            reduced_tail=reduced_tail,
            norm_layer=partial(nn.BatchNorm2d, eps=norm_eps, momentum=0.03),
        ).features
        freeze(layers[:frozen_blocks])
        first, last = layers[C5], layers[-1].out_channels
        if list(strides) == [16, 32]:
            fine = nn.Sequential(*layers[:C5], first.block[0])
            coarse = nn.Sequential(first.block[1:], *layers[C5 + 1 :])
            self.features = [FeatureSpec(first.block[0].out_channels, 16), FeatureSpec(last, 32)]
        else:
            fine, coarse = layers[: C5 + 1], layers[C5 + 1 :]
            self.features = [FeatureSpec(first.out_channels, 32), FeatureSpec(last, 32)]
        self.fine, self.coarse = fine, coarse
        if norm == "frozen":
            freeze_batch_norm_2d(self)
        self.mean, self.std = tuple(mean), tuple(std)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.fine(images)
        return [fine, self.coarse(fine)]
