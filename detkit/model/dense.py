"""What dense heads share: anchors over a pyramid of maps, the order of their outputs, initialisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from detkit.core.errors import UserError
from detkit.core.structures import Size
from detkit.ops.anchor import Rounding, base_anchors, default_boxes, grid_anchors

Convention = Literal["exact", "caffe", "torchvision"]
ROUNDING: dict[Convention, Rounding] = {"exact": "none", "caffe": "base16", "torchvision": "half_extent"}


class AnchorGrid(nn.Module):
    """Generate anchors over every level of a pyramid.

    strides: of the levels. sizes: per level, square roots of areas in pixels; None takes 8, 16 and 32 strides on a
    single map (Faster R-CNN, section 3.1), 8 strides on each of several (FPN, section 4.1). ratios: height / width, the
    same on all levels. convention: whose weights the anchors are for. "exact": exact areas, centred in their cells;
    "caffe": shapes rounded as in py-faster-rcnn; "torchvision": corners rounded, centred on the corners of the cells,
    whose size is the canvas divided by the grid in whole pixels (61 px, not 64, for 13 cells over 800 px).
    """

    def __init__(
        self,
        *,
        strides: Sequence[int],
        sizes: Sequence[Sequence[float]] | None = None,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        convention: Convention = "exact",
    ) -> None:
        super().__init__()
        if sizes is None:
            scales = (8, 16, 32) if len(strides) == 1 else (8,)
            sizes = [[stride * scale for scale in scales] for stride in strides]
        if len({len(level_sizes) for level_sizes in sizes}) != 1:
            raise UserError(
                f"anchors.sizes={[list(level_sizes) for level_sizes in sizes]}: one head serves all levels, so each "
                "needs as many sizes as the others"
            )
        if len(sizes) != len(strides):
            raise UserError(
                f"anchors.sizes has {len(sizes)} levels, the features have {len(strides)} (strides {list(strides)}): "
                "give one list of sizes per level, or null for sizes by stride"
            )
        self.strides = list(strides)
        self.convention = convention
        for level, level_sizes in enumerate(sizes):
            base = base_anchors(level_sizes, ratios, ROUNDING[convention])
            self.register_buffer(f"base{level}", base, persistent=False)

    def base(self, level: int) -> Tensor:
        """Return the anchors of one cell of a level: [A, 4], about the origin."""
        base: Tensor = getattr(self, f"base{level}")
        return base

    def forward(self, features: Sequence[Tensor], canvas: Size) -> list[Tensor]:
        """Return, per level, float32 [H * W * A, 4] xyxy on the canvas (h, w), in the order of `grid_anchors`."""
        anchors = []
        for level, (feature, stride) in enumerate(zip(features, self.strides, strict=True)):
            rows, columns = feature.shape[-2:]
            if self.convention == "torchvision":
                steps = (canvas[0] // rows, canvas[1] // columns)
                anchors.append(grid_anchors(self.base(level), (rows, columns), steps, offset=0))
            else:
                anchors.append(grid_anchors(self.base(level), (rows, columns), (stride, stride)))
        return anchors


class DefaultBoxes(nn.Module):
    """Generate SSD's default boxes over every level (Liu et al. 2016, section 2.2).

    scales: s_k per level and one more for the last level's second square, as shares of the canvas: a box of scale s
    is s times as wide as the canvas and s times as high. ratios: per level, width / height, each taken both ways.
    steps: per level, pixels from one centre to the next on the square canvas of `side` pixels that they were published
    for; every other canvas is shared evenly among the cells, and where steps is None so are all. side: None is the
    last step, since the last map of the published networks is one cell.
    limit: no box is wider or higher than the canvas (torchvision), or it may be (Caffe).
    """

    def __init__(
        self,
        *,
        scales: Sequence[float],
        ratios: Sequence[Sequence[float]],
        steps: Sequence[float] | None = None,
        side: int | None = None,
        limit: bool = False,
    ) -> None:
        super().__init__()
        if len(scales) != len(ratios) + 1 or (steps is not None and len(steps) != len(ratios)):
            raise UserError(
                f"model.dense_head.default_boxes: {len(ratios)} levels of ratios need {len(ratios) + 1} scales "
                "(there are "
                f"{len(scales)}) and {len(ratios)} steps or none"
            )
        self.num_levels = len(ratios)
        self.steps = steps
        self.side = steps[-1] if steps is not None and side is None else side
        for level, level_ratios in enumerate(ratios):
            base = default_boxes(scales[level], scales[level + 1], level_ratios)
            self.register_buffer(f"base{level}", base.clamp(-0.5, 0.5) if limit else base, persistent=False)

    def base(self, level: int) -> Tensor:
        """Return the boxes of one cell of a level: [A, 4] as shares of the canvas, about the origin."""
        base: Tensor = getattr(self, f"base{level}")
        return base

    def forward(self, features: Sequence[Tensor], canvas: Size) -> Tensor:
        """Return float32 [N, 4] xyxy on the canvas (h, w): levels in order, each in the order of `grid_anchors`."""
        steps = self.steps if (canvas[0], canvas[1]) == (self.side, self.side) else None
        if steps is not None and not torch.compiler.is_compiling():
            check_steps(steps, features, canvas)
        size = self.base(0).new_tensor([canvas[1], canvas[0]] * 2)
        boxes = []
        for level, feature in enumerate(features):
            grid = (feature.shape[-2], feature.shape[-1])
            step = (canvas[0] / grid[0], canvas[1] / grid[1]) if steps is None else (steps[level],) * 2
            boxes.append(grid_anchors(self.base(level) * size, grid, step))
        return torch.cat(boxes)


def check_steps(steps: Sequence[float], features: Sequence[Tensor], canvas: Size) -> None:
    """Raise UserError if the cells of a map, `steps` apart, end a cell or more off the border of the canvas."""
    for feature, step in zip(features, steps, strict=True):
        for cells, side in zip(feature.shape[-2:], canvas, strict=True):
            if abs(cells * step - side) >= step:
                raise UserError(
                    f"model.dense_head.default_boxes.steps={list(steps)}: {cells} cells {step} pixels apart do not "
                    f"cover the {side} pixels of the image, which they are said to be made for; take the neck and the "
                    "dense_head of one model, or share the canvas evenly by model.dense_head.default_boxes.steps=null"
                )


def flatten_head(maps: Tensor, values: int) -> Tensor:
    """Rearrange a head's map [B, A * values, H, W] to one row per anchor: [B, H * W * A, values], in anchor order."""
    rows: Tensor = maps.unflatten(1, (-1, values)).permute(0, 3, 4, 1, 2).flatten(1, 3)
    return rows


def best_pairs(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Select the `count` highest of [B, N, C] in each image, or all if there are fewer: values, indices in N and in C.

    All three [B, K], by descending value.
    """
    top, index = scores.flatten(1).topk(min(count, scores.shape[1] * scores.shape[2]), dim=1)
    return top, index // scores.shape[2], index % scores.shape[2]


def normal_init(module: nn.Module, std: float) -> None:
    """Initialise weights from N(0, std) and biases with zero: in place."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def start_at(layer: nn.Conv2d, prior: float) -> None:
    """Initialise the bias so that every score starts at `prior` after a sigmoid (RetinaNet, section 4.1): in place."""
    assert layer.bias is not None
    nn.init.constant_(layer.bias, -math.log((1 - prior) / prior))
