"""What dense heads share: the anchors of a whole feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detkit.ops.anchor import Rounding, base_anchors, grid_anchors


class AnchorGrid(nn.Module):
    """Anchors over every level of a pyramid.

    sizes: per level, the sizes in pixels (one list serves a single level); ratios: height / width, the same on all
    levels; offset, rounding: see `detkit.ops.anchor`.
    """

    def __init__(
        self,
        *,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        offset: float = 0.5,
        rounding: Rounding = "none",
    ) -> None:
        super().__init__()
        self.num_levels = len(sizes)
        self.offset = offset
        for level, level_sizes in enumerate(sizes):
            self.register_buffer(f"base{level}", base_anchors(level_sizes, ratios, rounding), persistent=False)

    def base(self, level: int) -> Tensor:
        """The anchors of one cell of a level: [A, 4], centred on the origin."""
        return getattr(self, f"base{level}")

    def forward(self, features: Sequence[Tensor], strides: Sequence[int]) -> list[Tensor]:
        """Per level float32 [H * W * A, 4] xyxy on the canvas, in the order of `grid_anchors`."""
        return [
            grid_anchors(self.base(level), feature.shape[-2:], (stride, stride), self.offset)
            for level, (feature, stride) in enumerate(zip(features, strides, strict=True))
        ]


def flatten_head(maps: Tensor, values: int) -> Tensor:
    """A head's map [B, A * values, H, W] as one row per anchor: [B, H * W * A, values], in anchor order."""
    return maps.unflatten(1, (-1, values)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def normal_init(module: nn.Module, std: float) -> None:
    """Weights from N(0, std), biases zero: in place."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
