"""R-CNN's RoI head: everything is computed per region, so in chunks of regions (Girshick et al. 2014)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detkit.model.protocols import RegionNetwork
from detkit.model.roi_head.fast_rcnn import FastRCNNHead


class RCNNHead(FastRCNNHead):
    """Classify and refine proposals by roi_pool -> box_head -> predictor, in chunks of bounded memory.

    Samples and targets are those of `FastRCNNHead`. chunk_size: regions that are cropped and run through the network
    together at test. In training the sampled regions go at once.
    """

    box_head: RegionNetwork

    def __init__(self, *, chunk_size: int = 64, **settings: Any) -> None:
        super().__init__(**settings)
        self.chunk_size = chunk_size

    @property
    def variant(self) -> str:
        """Return how it scores regions, which makes another system of the same network: "softmax" or "SVM + boxes"."""
        return str(getattr(self.predictor, "variant", "softmax"))

    def regions(self, features: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute logits and deltas of the predictor for each box, over all images."""
        return self.predictor(self.describe(features, boxes))

    def describe(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Compute the features of each box that the predictor reads, over all images: [R, D]."""
        if self.training:
            return self.box_head(self.roi_pool(features, boxes))
        described = [
            self.box_head(self.roi_pool([feature[index : index + 1] for feature in features], [chunk]))
            for index, own in enumerate(boxes)
            for chunk in own.split(self.chunk_size)
        ]
        return torch.cat(described)
