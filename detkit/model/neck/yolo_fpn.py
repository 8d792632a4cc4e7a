"""YOLO v3's top-down path: coarse maps are concatenated to finer ones (Redmon & Farhadi 2018, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec
from detkit.model.layers.conv import conv_norm


class YOLOFPN(nn.Module):
    """YOLO v3 neck: from the coarsest map down, squeeze, refine, and hand half the channels, upsampled, to the next.

    channels: of the map that each level gives, fine to coarse. num_pairs: after the first 1x1 convolution of a level,
    how many pairs of 3x3 (twice the channels) and 1x1 follow; 2 in YOLO v3.
    """

    def __init__(
        self, *, features: Sequence[FeatureSpec], channels: Sequence[int] = (128, 256, 512), num_pairs: int = 2
    ) -> None:
        super().__init__()
        if len(channels) != len(features):
            raise UserError(
                f"model.neck.channels={list(channels)}: one number per map, of which there are {len(features)} "
                f"(strides {[feature.stride for feature in features]})"
            )
        self.refine, self.lateral = nn.ModuleList(), nn.ModuleList()
        above = 0  # channels that come from the coarser level
        for feature, width in zip(reversed(features), reversed(channels), strict=True):
            if len(self.refine) > 0:
                self.lateral.append(conv_norm(above, above // 2))
            layers = conv_norm(feature.channels + above // 2, width)
            for _ in range(num_pairs):
                layers.extend([conv_norm(width, 2 * width, 3), conv_norm(2 * width, width)])
            self.refine.append(layers)
            above = width
        self.features = [FeatureSpec(width, f.stride) for width, f in zip(channels, features, strict=True)]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        x = self.refine[0](features[-1])
        maps = [x]
        for feature, lateral, refine in zip(reversed(features[:-1]), self.lateral, self.refine[1:], strict=True):
            larger = F.interpolate(lateral(x), size=feature.shape[-2:], mode="nearest")
            x = refine(torch.cat([larger, feature], dim=1))
            maps.append(x)
        return maps[::-1]
