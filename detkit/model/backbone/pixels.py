"""The image itself as the one feature map: R-CNN computes nothing before it crops regions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec


class Pixels(nn.Module):
    """Return the normalised canvas as a map: stride 1, three channels.

    It has no weights, hence no `mean` and `std` of its own: those of the network that reads the regions are used.
    """

    mean = None
    std = None

    def __init__(self, *, strides: Sequence[int]) -> None:
        super().__init__()
        if list(strides) != [1]:
            raise UserError(
                f"model.strides={list(strides)}: model/backbone=pixels is the image itself, of stride 1, for R-CNN "
                "(model=rcnn, whose model.strides=[1]); maps of other strides need a network, such as "
                "model/backbone=timm"
            )
        self.features = [FeatureSpec(3, 1)]

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images]
