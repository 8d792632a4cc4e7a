"""YOLOX: an anchor-free decoupled head, one box per cell (Ge et al. 2021).

Symbols: B images, N cells of an image over all levels, P cells with an object, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.structures import Batch, FeatureSpec
from detkit.model.class_rows import labels_of_rows
from detkit.model.layers.conv import Activation, conv_norm
from detkit.model.layers.csp import spatial_conv
from detkit.ops.assign.match import IGNORE
from detkit.ops.assign.objects import objects_of
from detkit.ops.assign.simota import assign_simota
from detkit.ops.box import paired_iou
from detkit.ops.yolo_coder import cell_grid, decode_free

PRIOR = 0.01  # what scores start at
BOX_WEIGHT = 5.0


class Level(nn.Module):
    """Decoupled head of a level: 1x1 to `channels`, then `num_convs` 3x3 per branch: classes; boxes and objectness."""

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        channels: int,
        num_convs: int,
        depthwise: bool,
        activation: Activation,
    ) -> None:
        super().__init__()
        conv = spatial_conv(depthwise, activation)
        self.stem = conv_norm(in_channels, channels, activation=activation)
        self.class_branch = nn.Sequential(*(conv(channels, channels, 3) for _ in range(num_convs)))
        self.box_branch = nn.Sequential(*(conv(channels, channels, 3) for _ in range(num_convs)))
        self.logit = nn.Conv2d(channels, num_classes, 1)
        self.box = nn.Conv2d(channels, 4, 1)
        self.objectness = nn.Conv2d(channels, 1, 1)
        for layer in (self.logit, self.objectness):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, feature: Tensor) -> Tensor:
        """Compute [B, H * W, 5 + C] of x, y, w, h, objectness, classes."""
        x = self.stem(feature)
        boxes = self.box_branch(x)
        maps = [self.box(boxes), self.objectness(boxes), self.logit(self.class_branch(x))]
        return torch.cat(maps, dim=1).flatten(2).transpose(1, 2)


class YOLOX(nn.Module):
    """YOLOX head: decoupled per level, SimOTA, 1 - IoU^2 for boxes, binary cross-entropy for the rest.

    channels: of the head, 256 in the largest; num_convs: in each branch. radius, num_candidates: of `assign_simota`.
    The L1 loss that the paper adds in its last epochs is left out.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        num_classes: int,
        channels: int = 128,
        num_convs: int = 2,
        depthwise: bool = False,
        activation: Activation = "silu",
        radius: float = 2.5,
        num_candidates: int = 10,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.strides = [feature.stride for feature in features]
        self.radius, self.num_candidates = radius, num_candidates
        self.levels = nn.ModuleList(
            Level(
                feature.channels,
                num_classes=num_classes,
                channels=channels,
                num_convs=num_convs,
                depthwise=depthwise,
                activation=activation,
            )
            for feature in features
        )

    def forward(self, features: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, N, 1, 4] xyxy on the canvas and scores float32 [B, N, C] = objectness x class."""
        rows, cells, strides = self.rows(features)
        scores = rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid()
        return decode_free(rows, cells, strides)[:, :, None], scores

    def loss(self, features: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute box, objectness and class losses, summed and divided by the number of positive cells, at least 1.

        The class target of a cell is its object's class, weighted by the IoU of its box.
        """
        assert batch.targets is not None
        rows, cells, strides = self.rows(features)
        predicted = decode_free(rows, cells, strides)
        scores = (rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid()).detach()
        objects = objects_of(batch.targets)
        assigned, overlaps = assign_simota(
            (cells + 0.5) * strides,
            strides[:, 0],
            predicted.detach(),
            scores,
            objects,
            radius=self.radius,
            num_candidates=self.num_candidates,
        )  # [B, N] each
        image, cell = torch.nonzero(assigned >= 0, as_tuple=True)
        owner = assigned[image, cell]
        count = max(1, len(owner))
        overlap = paired_iou(predicted[image, cell], objects.boxes[owner])
        taught = F.one_hot(objects.labels[owner], self.num_classes) * overlaps[image, cell, None]  # [P, C]
        objectness = _logistic(rows[..., 4], (assigned >= 0).float()) * (assigned != IGNORE)
        return {
            "box": BOX_WEIGHT * (1 - overlap.square()).sum() / count,
            "objectness": objectness.sum() / count,
            "class": _logistic(rows[image, cell, 5:], taught).sum() / count,
        }

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`."""
        return {f"levels.{level}.logit": labels_of_rows(num_classes) for level in range(len(self.levels))}

    def rows(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Compute predictions float32 [B, N, 5 + C] of all cells; returns also the cells [N, 2] and strides [N, 1]."""
        rows = torch.cat([level(feature) for level, feature in zip(self.levels, features, strict=True)], dim=1)
        grids = [cell_grid((f.shape[2], f.shape[3]), f.device) for f in features]
        strides = [grid.new_full((grid.shape[0], 1), stride) for grid, stride in zip(grids, self.strides, strict=True)]
        return rows.float(), torch.cat(grids), torch.cat(strides)


def _logistic(logits: Tensor, wanted: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
