"""Feature pyramid: coarse maps enrich fine ones, top down (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec


class FPN(nn.Module):
    """torchvision's FPN over all maps, with `channels` each, and `extra_levels` coarser maps by subsampling.

    norm: "batch" puts batch norm after each convolution (Li et al. 2021, "Benchmarking detection transfer learning").
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        channels: int = 256,
        extra_levels: int = 1,
        norm: Literal["none", "batch"] = "none",
    ) -> None:
        super().__init__()
        if norm not in ("none", "batch"):
            raise UserError(f"model.neck.norm={norm}: choose none or batch")
        norm_layer = nn.BatchNorm2d if norm == "batch" else None
        self.pyramid = FeaturePyramidNetwork([feature.channels for feature in features], channels, None, norm_layer)
        self.extra_levels = extra_levels
        strides = [feature.stride for feature in features]
        strides += [strides[-1] * 2 ** (level + 1) for level in range(extra_levels)]
        self.features = [FeatureSpec(channels, stride) for stride in strides]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        maps = list(self.pyramid({str(level): feature for level, feature in enumerate(features)}).values())
        for _ in range(self.extra_levels):
            maps.append(F.max_pool2d(maps[-1], kernel_size=1, stride=2))
        return maps
