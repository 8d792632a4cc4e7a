"""The region proposal network: a dense head with one class, "object" (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, clip_boxes_to_image

from detkit.config.instantiate import complete
from detkit.core.errors import UserError
from detkit.core.structures import Batch, FeatureSpec, Size, Target
from detkit.model.dense import AnchorGrid, flatten_head, normal_init
from detkit.model.part import one_width
from detkit.model.protocols import Part
from detkit.ops.assign.match import IGNORE, match_boxes
from detkit.ops.assign.sample import sample_balanced
from detkit.ops.box import inside
from detkit.ops.coder import decode, encode

# Symbols: B images, L levels, N anchors of an image over all levels, P proposals kept.


class RPNHead(nn.Module):
    """RPN's layers: 3x3 convolutions shared by all levels, then objectness and offsets of A anchors at each cell."""

    def __init__(self, *, in_channels: int, channels: int, num_convs: int, num_anchors: int) -> None:
        super().__init__()
        self.conv = nn.Sequential()
        for index in range(num_convs):
            self.conv.append(nn.Conv2d(in_channels if index == 0 else channels, channels, 3, padding=1))
            self.conv.append(nn.ReLU(inplace=True))
        self.objectness = nn.Conv2d(channels, num_anchors, 1)
        self.delta = nn.Conv2d(channels, 4 * num_anchors, 1)
        normal_init(self, std=0.01)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute, per level, logits [B, H * W * A] and deltas [B, H * W * A, 4]."""
        hidden = [self.conv(feature) for feature in features]
        logits = [flatten_head(self.objectness(x), 1).squeeze(2).float() for x in hidden]
        deltas = [flatten_head(self.delta(x), 4).float() for x in hidden]
        return logits, deltas


class RPN(nn.Module):
    """Propose regions: score and refine anchors, and keep the best after non-maximum suppression.

    anchors: an AnchorGrid that waits for the strides of the features. positive_iou, negative_iou: an anchor is positive
    from the one on, or if it is the best of a ground truth, and background below the other. drop_border: anchors that
    cross the image border take no part in training. pre_nms, post_nms: how many, per level, enter suppression, and how
    many per image leave it, as (train, test). min_size: proposals narrower or lower, in pixels of the file, are
    dropped; filter_first: before the best pre_nms are taken, as py-faster-rcnn does, or after, as torchvision does,
    which decodes only these. score_threshold: those with a lower probability of an object are dropped too. box_beta:
    where smooth-L1 turns linear.
    """

    compilable = ("head",)

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        anchors: Part[AnchorGrid],
        channels: int = 512,
        num_convs: int = 1,
        positive_iou: float = 0.7,
        negative_iou: float = 0.3,
        num_samples: int = 256,
        positive_fraction: float = 0.5,
        drop_border: bool = True,
        pre_nms: tuple[int, int] = (12000, 6000),
        post_nms: tuple[int, int] = (2000, 300),
        nms_iou: float = 0.7,
        min_size: float = 16,
        filter_first: bool = False,
        score_threshold: float = 0.0,
        box_beta: float = 1 / 9,
    ) -> None:
        super().__init__()
        if features[0].stride == 1:
            raise UserError(
                "model/proposer=rpn reads maps, not pixels: with model/backbone=pixels take model/proposer=precomputed"
            )
        strides = [feature.stride for feature in features]
        self.anchors: AnchorGrid = complete(anchors, "model.proposer.anchors", strides=strides)
        self.head = RPNHead(
            in_channels=one_width(features, "model.proposer"),
            channels=channels,
            num_convs=num_convs,
            num_anchors=len(self.anchors.base(0)),
        )
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.num_samples, self.positive_fraction = num_samples, positive_fraction
        self.drop_border = drop_border
        self.pre_nms, self.post_nms = pre_nms, post_nms
        self.nms_iou, self.min_size, self.score_threshold, self.box_beta = nms_iou, min_size, score_threshold, box_beta
        self.filter_first = filter_first

    def forward(self, features: list[Tensor], batch: Batch) -> list[Tensor]:
        """Propose regions of each image, best first: float32 [P, 4] xyxy on the canvas."""
        logits, deltas = self.head(features)
        return self.propose(logits, deltas, self.anchors(features, batch.images.shape[-2:]), batch)

    def loss(self, features: list[Tensor], batch: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the proposals as in `forward`, without gradient, and the losses `rpn_objectness` and `rpn_box`."""
        assert batch.targets is not None
        logits, deltas = self.head(features)
        anchors = self.anchors(features, batch.images.shape[-2:])
        proposals = self.propose(logits, deltas, anchors, batch)

        all_anchors = torch.cat(anchors)  # [N, 4]
        all_logits, all_deltas = torch.cat(logits, dim=1), torch.cat(deltas, dim=1)  # [B, N], [B, N, 4]
        objectness, box, num_sampled = all_logits.sum() * 0, all_deltas.sum() * 0, 0
        for target, size, row_logits, row_deltas in zip(
            batch.targets, batch.sizes, all_logits, all_deltas, strict=True
        ):
            matches = self.assign(all_anchors, target, size)
            positive, negative = sample_balanced(
                matches, num_samples=self.num_samples, positive_fraction=self.positive_fraction
            )
            sampled = torch.cat([positive, negative])
            wanted = torch.zeros_like(sampled, dtype=row_logits.dtype)
            wanted[: len(positive)] = 1
            objectness = objectness + F.binary_cross_entropy_with_logits(row_logits[sampled], wanted, reduction="sum")
            offsets = encode(target["boxes"][matches[positive]], all_anchors[positive])
            box = box + F.smooth_l1_loss(row_deltas[positive], offsets, beta=self.box_beta, reduction="sum")
            num_sampled += len(sampled)
        count = max(num_sampled, 1)
        return proposals, {"rpn_objectness": objectness / count, "rpn_box": box / count}

    def assign(self, anchors: Tensor, target: Target, size: tuple[int, int]) -> Tensor:
        """Match the anchors [N, 4] to the ground truths of one image: int64 [N] as of `match`."""
        usable = inside(anchors, size) if self.drop_border else anchors.new_ones(len(anchors), dtype=torch.bool)
        matches = torch.full_like(usable, IGNORE, dtype=torch.int64)
        matches[usable] = match_boxes(
            anchors[usable],
            target["boxes"],
            target["difficult"],
            positive=self.positive_iou,
            negative=self.negative_iou,
            force_best=True,
        )
        return matches

    @torch.no_grad()
    def propose(self, logits: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], batch: Batch) -> list[Tensor]:
        """Decode, clip, drop the small and unlikely, suppress within each level, keep the best."""
        test = int(not self.training)
        boxes, scores, levels = [], [], []
        for level, (level_logits, level_deltas, level_anchors) in enumerate(zip(logits, deltas, anchors, strict=True)):
            if self.filter_first:
                large = [
                    self.is_large(clip_boxes_to_image(decode(own, level_anchors), size), size, original)
                    for own, size, original in zip(level_deltas, batch.sizes, batch.original_sizes, strict=True)
                ]
                level_logits = level_logits.masked_fill(~torch.stack(large), -torch.inf)
            top, index = level_logits.topk(min(self.pre_nms[test], level_logits.shape[1]), dim=1)  # [B, K]
            picked = level_deltas.gather(1, index[..., None].expand(-1, -1, 4))
            boxes.append(decode(picked, level_anchors[index]))
            scores.append(top)
            levels.append(torch.full_like(index, level))
        all_boxes, all_scores, all_levels = torch.cat(boxes, 1), torch.cat(scores, 1), torch.cat(levels, 1)
        proposals = []
        for image, (size, original) in enumerate(zip(batch.sizes, batch.original_sizes, strict=True)):
            image_boxes = clip_boxes_to_image(all_boxes[image], size)
            entering = self.is_large(image_boxes, size, original)
            entering &= all_scores[image].sigmoid() >= self.score_threshold
            image_boxes = image_boxes[entering]
            keep = batched_nms(image_boxes, all_scores[image][entering], all_levels[image][entering], self.nms_iou)
            proposals.append(image_boxes[keep[: self.post_nms[test]]])
        return proposals

    def is_large(self, boxes: Tensor, size: Size, original: Size) -> Tensor:
        """Tell which boxes [P, 4] xyxy on the canvas have sides of `min_size` or more in pixels of the file: bool [P].

        size: (h, w) of the content of the canvas. original: (height, width) of the file.
        """
        return ((boxes[:, 2:] - boxes[:, :2]) >= self.min_size * size[0] / original[0]).all(dim=1)
