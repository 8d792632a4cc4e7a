"""R-FCN's region head: everything learnt is computed once per image, a region only votes (Dai et al. 2016)."""

from __future__ import annotations

from torch import Tensor

from detkit.model.roi_head.fast_rcnn import FastRCNNHead


class RFCNHead(FastRCNNHead):
    """tail -> predictor over the whole image, then roi_pool and the mean over a region's cells.

    Samples, targets and losses are those of `FastRCNNHead`; only the order of the parts is another.
    """

    def regions(self, features: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What the score maps say of each box, over all images: logits and deltas of the predictor."""
        logits, deltas = self.predictor(self.tail(features[0]))
        return self.predictor.vote(self.roi_pool([logits], boxes), self.roi_pool([deltas], boxes))
