"""FPN with P6 and P7 by convolution (RetinaNet, footnote 2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detkit.core.structures import FeatureSpec


class RetinaFPN(nn.Module):
    """torchvision's FPN over all maps, with `channels` each, and P6 and P7 by convolutions of stride 2.

    from_backbone: whether P6 comes from the backbone's last map, as in the paper, or from the pyramid's, which is
    faster.
    """

    def __init__(self, *, features: Sequence[FeatureSpec], channels: int = 256, from_backbone: bool = False) -> None:
        super().__init__()
        source = features[-1].channels if from_backbone else channels
        extra = LastLevelP6P7(source, channels)
        extra.use_P5 = not from_backbone  # torchvision guesses it from the channels, which may agree by chance
        self.pyramid = FeaturePyramidNetwork([feature.channels for feature in features], channels, extra)
        coarsest = features[-1].stride
        strides = [*(feature.stride for feature in features), coarsest * 2, coarsest * 4]
        self.features = [FeatureSpec(channels, stride) for stride in strides]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return list(self.pyramid({str(level): feature for level, feature in enumerate(features)}).values())
