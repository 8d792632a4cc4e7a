"""R-FCN's RoI head: all that is learnt is computed once per image, a region only votes (Dai et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from detkit.core.errors import UserError
from detkit.model.protocols import BoxHead, RoIPooler, VotingPredictor
from detkit.model.roi_head.fast_rcnn import FastRCNNHead


class RFCNHead(FastRCNNHead):
    """Classify and refine proposals by box_head -> predictor on the whole image, then roi_pool and the mean over cells.

    Samples, targets and losses are those of `FastRCNNHead`; only the order of the parts is another.
    """

    per = "image"
    predictor: VotingPredictor

    def __init__(self, *, roi_pool: RoIPooler, box_head: BoxHead, predictor: VotingPredictor, **settings: Any) -> None:
        super().__init__(roi_pool=roi_pool, box_head=box_head, predictor=predictor, **settings)
        strides: Sequence[int] = getattr(roi_pool, "strides", [0])
        if len(strides) > 1:
            raise UserError(
                f"model/roi_head=rfcn reads one map, and is given {len(strides)} (strides {strides}): model/neck=none"
            )
        if predictor.size != roi_pool.size:
            raise UserError(f"model.predictor.size={predictor.size} must be model.roi_pool.size={roi_pool.size}")

    def regions(self, features: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Read logits and deltas of each box from the score maps, over all images."""
        logits, deltas = self.predictor(self.box_head(features[0]))
        return self.predictor.vote(self.roi_pool([logits], boxes), self.roi_pool([deltas], boxes))
