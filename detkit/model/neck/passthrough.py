"""YOLO v2's passthrough: a finer map, stacked space to depth, beside the coarse one (YOLO9000, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec
from detkit.model.layers.conv import conv_norm


class Passthrough(nn.Module):
    """Passthrough neck: two 3x3 convolutions on the coarse map, concatenated with the fine map, and a third.

    channels: of the three convolutions. passthrough: of the fine map, before the cells that fall into one coarse cell
    are stacked. Darknet's `reorg` layer stacks them in an order of its own, which only weights from there would need.
    """

    def __init__(self, *, features: Sequence[FeatureSpec], channels: int = 1024, passthrough: int = 64) -> None:
        super().__init__()
        if len(features) != 2 or features[1].stride % features[0].stride != 0:
            raise UserError(
                f"model.strides={[feature.stride for feature in features]}: a passthrough joins two maps, the stride "
                "of one a multiple of the other's, like [16,32]"
            )
        fine, coarse = features
        self.factor = coarse.stride // fine.stride
        self.coarse = nn.Sequential(conv_norm(coarse.channels, channels, 3), conv_norm(channels, channels, 3))
        self.fine = conv_norm(fine.channels, passthrough)
        self.join = conv_norm(channels + passthrough * self.factor**2, channels, 3)
        self.features = [FeatureSpec(channels, coarse.stride)]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        fine, coarse = self.fine(features[0]), self.coarse(features[1])
        height, width = (side * self.factor for side in coarse.shape[-2:])
        fine = F.pad(fine, (0, width - fine.shape[3], 0, height - fine.shape[2]))
        return [self.join(torch.cat([F.pixel_unshuffle(fine, self.factor), coarse], dim=1))]
