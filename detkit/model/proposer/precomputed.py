"""Precomputed proposals, from outside the network (R-CNN and Fast R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from detkit.core.errors import UserError
from detkit.core.structures import Batch, FeatureSpec, Size


class PrecomputedProposals(nn.Module):
    """Return `batch.proposals`, precomputed by selective search or read from a file.

    num_proposals: the best so many of each image, as (train, test).
    same_at: at test, of boxes that are the same when rounded to so many pixels only the best is kept; 0 for all.
        Fast R-CNN's test code does this at 16, the stride of its map, where such boxes pool the same cells.
    min_size: narrower or lower boxes (canvas pixels) are dropped.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        num_proposals: tuple[int, int] = (2000, 2000),
        same_at: float = 0,
        min_size: float = 1,
    ) -> None:
        super().__init__()
        self.num_proposals = num_proposals
        self.same_at = same_at
        self.min_size = min_size

    def forward(self, features: list[Tensor], batch: Batch) -> list[Tensor]:
        """Return the proposals of each image, best first: float32 [P, 4] xyxy on the canvas."""
        if batch.proposals is None:
            raise UserError(
                "the model takes its regions from outside (model/proposer=precomputed) and was given none: choose "
                "proposal=selective_search_fast, or proposal=from_file proposal.path=FILE"
            )
        return [self.of_image(*args) for args in zip(batch.proposals, batch.sizes, strict=True)]

    def loss(self, features: list[Tensor], batch: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the proposals as in `forward`, and no losses."""
        return self(features, batch), {}

    def of_image(self, boxes: Tensor, size: Size) -> Tensor:
        """Clip boxes to the content of the canvas and drop those that are too small or the same."""
        boxes = clip_boxes_to_image(boxes[: self.num_proposals[int(not self.training)]], size)
        boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= self.min_size).all(dim=1)]
        if self.same_at == 0 or self.training or len(boxes) == 0:
            return boxes
        cells = torch.round(boxes / self.same_at)
        _, group = torch.unique(cells, dim=0, return_inverse=True)
        first = torch.full((int(group.max()) + 1,), len(boxes), device=boxes.device)
        first.scatter_reduce_(0, group, torch.arange(len(boxes), device=boxes.device), "amin")
        return boxes[first.sort().values]
