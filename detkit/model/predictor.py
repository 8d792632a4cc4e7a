"""The last layers of a region: class scores and box offsets, and how they are learnt."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Symbols: R regions, C classes, D features of a region. Column 0 of the logits is background: only this file knows.


class LinearPredictor(nn.Module):
    """One linear layer for the softmax over background and classes, one for the boxes (Fast R-CNN, section 2.1).

    class_agnostic: one box for all classes instead of one for each. box_beta: where smooth-L1 turns linear.
    """

    def __init__(
        self, *, in_features: int, num_classes: int, class_agnostic: bool = False, box_beta: float = 1.0
    ) -> None:
        super().__init__()
        self.num_boxes = 1 if class_agnostic else num_classes
        self.box_beta = box_beta
        self.logit = nn.Linear(in_features, num_classes + 1)
        self.delta = nn.Linear(in_features, 4 * self.num_boxes)
        nn.init.normal_(self.logit.weight, std=0.01)
        nn.init.normal_(self.delta.weight, std=0.001)
        nn.init.zeros_(self.logit.bias)
        nn.init.zeros_(self.delta.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [R, D] -> logits float32 [R, C + 1], deltas float32 [R, C or 1, 4]."""
        return self.logit(x).float(), self.delta(x).float().unflatten(1, (self.num_boxes, 4))

    def scores(self, logits: Tensor) -> Tensor:
        """The probability of each class: [R, C]."""
        return logits.softmax(dim=1)[:, 1:]

    def loss(self, logits: Tensor, deltas: Tensor, labels: Tensor, offsets: Tensor) -> dict[str, Tensor]:
        """Cross entropy and smooth-L1, both divided by the number of regions (Fast R-CNN, equation 1).

        labels: int64 [R], 0..C-1, or -1 for background. offsets: float32 [P, 4], wanted of the P regions that have a
        class, in order.
        """
        count = max(len(labels), 1)
        fg = torch.nonzero(labels >= 0).flatten()
        column = labels[fg] if self.num_boxes > 1 else torch.zeros_like(fg)
        box = F.smooth_l1_loss(deltas[fg, column], offsets, beta=self.box_beta, reduction="sum")
        classification = F.cross_entropy(logits, labels + 1, reduction="sum")
        return {"roi_class": classification / count, "roi_box": (box + deltas.sum() * 0) / count}
