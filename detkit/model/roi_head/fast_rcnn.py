"""Fast R-CNN's RoI head: pool each proposal, classify it, refine its box (Girshick 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from detkit.config.instantiate import name_of
from detkit.core.errors import UserError
from detkit.core.structures import Batch, Target
from detkit.model.class_rows import labels_of_rows
from detkit.model.protocols import BoxHead, Predictor, RoIPooler, ScalablePredictor
from detkit.ops.assign.match import IGNORE, NEGATIVE, match_boxes
from detkit.ops.assign.offset_statistics import offset_statistics
from detkit.ops.assign.sample import hardest, sample_balanced
from detkit.ops.coder import decode, encode

USUAL_STD = (0.1, 0.1, 0.2, 0.2)


class FastRCNNHead(nn.Module):
    """Classify and refine proposals by roi_pool -> box_head -> predictor; sample those to learn from.

    fg_iou: a proposal with at least this IoU is assigned the class of its ground truth. bg_iou: (low, high), a proposal
    is background if its highest IoU lies in [low, high). num_samples: per image, at most `fg_fraction` of them with a
    class; None takes all. gt_proposals: whether ground truths are among the proposals to sample from. hard_examples: of
    the samples, per image, only so many of the highest loss count (OHEM: Shrivastava et al. 2016); None takes all.
    box_std: the offsets are divided by it, for about unit variance; None: `prepare` measures mean and deviation of each
    class on the training set (Fast R-CNN, section 2.3), and they are kept with the weights.
    """

    per = "region"
    timed = ("roi_pool",)
    compilable = ("box_head",)
    roi_pool: RoIPooler
    box_head: BoxHead
    predictor: Predictor
    box_mean: Tensor
    box_std: Tensor

    def __init__(
        self,
        *,
        roi_pool: RoIPooler,
        box_head: BoxHead,
        predictor: Predictor,
        num_samples: int | None = 128,
        fg_fraction: float = 0.25,
        fg_iou: float = 0.5,
        bg_iou: tuple[float, float] = (0.0, 0.5),
        hard_examples: int | None = None,
        gt_proposals: bool = True,
        box_std: Sequence[float] | None = (0.1, 0.1, 0.2, 0.2),
    ) -> None:
        super().__init__()
        self.roi_pool = roi_pool
        self.box_head = box_head
        self.predictor = predictor
        self.num_samples, self.fg_fraction = num_samples, fg_fraction
        self.fg_iou, self.bg_iou = fg_iou, bg_iou
        self.hard_examples = hard_examples
        self.gt_proposals = gt_proposals
        self.measures_offsets = box_std is None
        if self.measures_offsets and not isinstance(predictor, ScalablePredictor):
            raise UserError(
                "model.roi_head.box_std=null measures the offsets of boxes, which needs model/predictor=linear; with "
                f"{name_of(predictor)} set model.roi_head.box_std=[0.1,0.1,0.2,0.2]"
            )
        std = torch.tensor(box_std or USUAL_STD).expand(predictor.num_boxes, 4).clone()  # [C or 1, 4]
        self.register_buffer("box_mean", torch.zeros_like(std), persistent=self.measures_offsets)
        self.register_buffer("box_std", std, persistent=self.measures_offsets)

    def fit_statistics(self, targets: Iterable[Target]) -> None:
        """Measure mean and deviation of the offsets on the training set, if `box_std` is None.

        targets: of every image, with "proposals".
        """
        if self.measures_offsets:
            mean, std = offset_statistics(targets, num_classes=len(self.box_std), fg_iou=self.fg_iou)
            self.box_mean.copy_(mean)
            self.box_std.copy_(std)

    def fuse_for_inference(self) -> None:
        """Absorb the offset mean and std into the last layer; the head can no longer be trained."""
        if self.measures_offsets:
            assert isinstance(self.predictor, ScalablePredictor)
            self.predictor.scale_deltas(self.box_std, self.box_mean)
            self.box_std.fill_(1)
            self.box_mean.zero_()

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`: the statistics of the offsets, if each class has its own."""
        tells = getattr(self.predictor, "class_rows", None)
        if tells is None or "delta" not in tells(num_classes):
            return {}
        return dict.fromkeys(("box_mean", "box_std"), labels_of_rows(num_classes))

    def forward(self, features: list[Tensor], proposals: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return, per image, boxes float32 [P, C or 1, 4] on the canvas and scores [P, C]."""
        logits, deltas = self.regions(features, proposals)
        boxes = decode(deltas * self.box_std + self.box_mean, torch.cat(proposals)[:, None])
        counts = [len(p) for p in proposals]
        return list(boxes.split(counts)), list(self.predictor.scores(logits).split(counts))

    def loss(self, features: list[Tensor], proposals: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute the mean losses of the predictor on sampled proposals."""
        assert batch.targets is not None
        picked = [self.sample(boxes, target) for boxes, target in zip(proposals, batch.targets, strict=True)]
        boxes, labels, offsets = (list(column) for column in zip(*picked, strict=True))
        logits, deltas = self.regions(features, boxes)
        losses = self.predictor.losses(logits, deltas, torch.cat(labels), torch.cat(offsets))
        if self.hard_examples is not None:
            total = torch.stack(list(losses.values())).sum(dim=0).detach()
            hard = hardest(total, [len(b) for b in boxes], self.hard_examples)
            losses = {name: loss[hard] for name, loss in losses.items()}
        return {name: loss.sum() / max(len(loss), 1) for name, loss in losses.items()}

    def regions(self, features: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute logits and deltas of the predictor for each box, over all images."""
        return self.predictor(self.box_head(self.roi_pool(features, boxes)))

    def sample(self, proposals: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Sample boxes [S, 4], their labels [S] (-1 for background) and the offsets [F, 4] of those with a class."""
        gt_boxes, difficult = target["boxes"], target["difficult"]
        boxes = torch.cat([proposals, gt_boxes[~difficult]]) if self.gt_proposals else proposals
        low, high = self.bg_iou
        matches = match_boxes(boxes, gt_boxes, difficult, positive=self.fg_iou, negative=high)
        if low > 0:
            far = match_boxes(boxes, gt_boxes, difficult, positive=self.fg_iou, negative=low) == NEGATIVE
            matches[far] = IGNORE
        if self.num_samples is None:
            fg, bg = (torch.nonzero(side).flatten() for side in (matches >= 0, matches == NEGATIVE))
        else:
            fg, bg = sample_balanced(matches, num_samples=self.num_samples, positive_fraction=self.fg_fraction)
        owner = matches[fg]
        labels = torch.cat([target["labels"][owner], torch.full_like(bg, -1)])
        column = target["labels"][owner] if len(self.box_std) > 1 else torch.zeros_like(owner)
        offsets = (encode(gt_boxes[owner], boxes[fg]) - self.box_mean[column]) / self.box_std[column]
        return boxes[torch.cat([fg, bg])], labels, offsets
