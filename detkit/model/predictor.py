"""Predictors of a region head: class scores and box offsets, and their losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.errors import UserError
from detkit.model.class_rows import labels_of_rows
from detkit.model.dense import normal_init

# Symbols: R regions, C classes, D features of a region, k cells along the side of a region.
# Column 0 of the logits is background: only this file knows.


class _Predictor(nn.Module):
    """Softmax over background and classes, and box regression; a subclass computes the logits and offsets."""

    reads = "regions"

    def __init__(self, *, num_classes: int, class_agnostic: bool, box_beta: float) -> None:
        super().__init__()
        self.num_logits = num_classes + 1
        self.class_agnostic = class_agnostic
        self.num_boxes = 1 if class_agnostic else num_classes
        self.box_beta = box_beta

    def scores(self, logits: Tensor) -> Tensor:
        """Return the probability of each class: [R, C]."""
        return logits.softmax(dim=1)[:, 1:]

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`."""
        rows = {"logit": labels_of_rows(num_classes, others=1)}
        return rows if self.class_agnostic else rows | {"delta": labels_of_rows(num_classes, values=4)}

    def losses(self, logits: Tensor, deltas: Tensor, labels: Tensor, offsets: Tensor) -> dict[str, Tensor]:
        """Compute cross-entropy and smooth-L1 of each region, float32 [R] (Fast R-CNN, equation 1).

        logits [R, C + 1], deltas [R, C or 1, 4]. labels: int64 [R], 0..C-1, or -1 for background. offsets: float32
        [P, 4], the targets of the P regions that have a class, in order.
        """
        fg = torch.nonzero(labels >= 0).flatten()
        column = labels[fg] if self.num_boxes > 1 else torch.zeros_like(fg)
        box = F.smooth_l1_loss(deltas[fg, column], offsets, beta=self.box_beta, reduction="none").sum(dim=1)
        return {
            "roi_class": F.cross_entropy(logits, labels + 1, reduction="none"),
            "roi_box": (deltas * 0).sum(dim=(1, 2)).index_add(0, fg, box),
        }


class SoftmaxPredictor(_Predictor):
    """One linear layer for the softmax over background and classes; boxes stay the proposals (R-CNN's fine-tuning)."""

    def __init__(self, *, in_features: int, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, class_agnostic=True, box_beta=1.0)
        self.logit = nn.Linear(in_features, self.num_logits)
        normal_init(self.logit, std=0.01)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [R, D] -> logits float32 [R, C + 1], zero offsets float32 [R, 1, 4]."""
        logits = self.logit(x).float()
        return logits, logits.new_zeros(x.shape[0], self.num_boxes, 4)

    def losses(self, logits: Tensor, deltas: Tensor, labels: Tensor, offsets: Tensor) -> dict[str, Tensor]:
        """Compute cross-entropy of each region, float32 [R]; arguments as in `LinearPredictor.losses`."""
        return {"roi_class": super().losses(logits, deltas, labels, offsets)["roi_class"]}


class LinearPredictor(_Predictor):
    """One linear layer for the softmax over background and classes, one for the boxes (Fast R-CNN, section 2.1).

    class_agnostic: one box for all classes instead of one for each. box_beta: where smooth-L1 turns linear.
    """

    def __init__(
        self, *, in_features: int, num_classes: int, class_agnostic: bool = False, box_beta: float = 1.0
    ) -> None:
        super().__init__(num_classes=num_classes, class_agnostic=class_agnostic, box_beta=box_beta)
        self.logit = nn.Linear(in_features, self.num_logits)
        self.delta = nn.Linear(in_features, 4 * self.num_boxes)
        nn.init.normal_(self.logit.weight, std=0.01)
        nn.init.normal_(self.delta.weight, std=0.001)
        nn.init.zeros_(self.logit.bias)
        nn.init.zeros_(self.delta.bias)

    @torch.no_grad()
    def scale_deltas(self, scale: Tensor, shift: Tensor) -> None:
        """Change the weights in place so that deltas become deltas * scale + shift, both [C or 1, 4]."""
        self.delta.weight.mul_(scale.reshape(-1, 1))
        self.delta.bias.mul_(scale.flatten()).add_(shift.flatten())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [R, D] -> logits float32 [R, C + 1], deltas float32 [R, C or 1, 4]."""
        return self.logit(x).float(), self.delta(x).float().unflatten(1, (self.num_boxes, 4))


class PositionSensitivePredictor(_Predictor):
    """Position-sensitive score maps: each cell of a region reads maps of its own (Dai et al. 2016, section 2).

    size: k, as that of the PS-RoI pooling that reads the maps. class_agnostic, box_beta: as in `LinearPredictor`.
    """

    reads = "image"

    def __init__(
        self,
        *,
        in_features: int,
        num_classes: int,
        size: int = 7,
        class_agnostic: bool = True,
        box_beta: float = 1.0,
    ) -> None:
        super().__init__(num_classes=num_classes, class_agnostic=class_agnostic, box_beta=box_beta)
        self.size = size
        self.logit = nn.Conv2d(in_features, size * size * self.num_logits, 1)
        self.delta = nn.Conv2d(in_features, size * size * 4 * self.num_boxes, 1)
        normal_init(self, std=0.01)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, D, H, W] -> maps of logits [B, (C + 1) k k, H, W] and of deltas [B, (C or 1) 4 k k, H, W]."""
        return self.logit(x), self.delta(x)

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`: every number has one map per cell."""
        rows = super().class_rows(num_classes)
        return {layer: labels.repeat_interleave(self.size**2) for layer, labels in rows.items()}

    def vote(self, logits: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """Average over cells what a region reads from both maps, [R, C + 1, k, k] and [R, (C or 1) 4, k, k]."""
        mean = deltas.float().mean(dim=(2, 3))
        return logits.float().mean(dim=(2, 3)), mean.unflatten(1, (self.num_boxes, 4))


class SVMPredictor(nn.Module):
    """A linear SVM and a ridge regressor of boxes for each class (R-CNN, section 2.3 and appendix C).

    `detkit fit_svm` fits them; they are not trained. box_features: how many of the features, the last ones, the
    regressors read and the SVMs do not; 0: there are no regressors, boxes stay the proposals.
    """

    reads = "regions"

    def __init__(self, *, in_features: int, num_classes: int, box_features: int = 0) -> None:
        super().__init__()
        self.num_boxes = num_classes if box_features > 0 else 1
        self.split = (in_features - box_features, box_features)
        self.margin = nn.Linear(self.split[0], num_classes)
        self.delta = nn.Linear(box_features, 4 * num_classes) if box_features > 0 else None

    @property
    def variant(self) -> str:
        """Return what an R-CNN with this predictor is called."""
        return "SVM" if self.delta is None else "SVM + boxes"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [R, D] -> margins float32 [R, C], deltas float32 [R, C or 1, 4]."""
        scored, placed = x.split(self.split, dim=1)
        margins = self.margin(scored).float()
        if self.delta is None:
            return margins, margins.new_zeros(x.shape[0], 1, 4)
        return margins, self.delta(placed).float().unflatten(1, (self.num_boxes, 4))

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`."""
        rows = {"margin": labels_of_rows(num_classes)}
        return rows if self.delta is None else rows | {"delta": labels_of_rows(num_classes, values=4)}

    def scores(self, margins: Tensor) -> Tensor:
        """Map margins to 0..1 in the same order, the boundary at 0.5; no probabilities: [R, C]."""
        return margins.sigmoid()

    def losses(self, logits: Tensor, deltas: Tensor, labels: Tensor, offsets: Tensor) -> dict[str, Tensor]:
        """Raise UserError: SVMs are fitted, not trained."""
        raise UserError(
            "model/predictor=svm is not trained: train with model/predictor=softmax, then detkit fit_svm checkpoint=RUN"
        )
