"""Postprocess: scored boxes to detections."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from detkit.core.errors import UserError
from detkit.core.structures import Batch, Detections, Size
from detkit.image.preprocess import Preprocess
from detkit.ops.nms import best_after_diou_nms, best_after_nms, rank_in_group


class NMSPostprocess(nn.Module):
    """Threshold scores, suppress within each class, keep the best of each image, map back to the file's pixels.

    score_threshold: a detection's score is above it. nms_iou: of two boxes of a class that overlap more, the better
    stays. max_detections: per image over all classes. min_size: narrower or lower boxes (canvas pixels) are dropped.
    max_candidates: so many of each class, the best, enter suppression. set_candidates: of a test set only detections
    count whose scores are among so many times the images of the candidates of their class (R-CNN's test), which is done
    by the evaluation (`set_cap`). None for all, each of the three. nms_kind: the measure of overlap: iou,
    or diou (Zheng et al. 2020) with beta_nms as the power of its second term; raises UserError for other kinds.
    """

    def __init__(
        self,
        *,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        max_detections: int | None = 100,
        min_size: float = 1e-2,
        max_candidates: int | None = None,
        set_candidates: int | None = None,
        nms_kind: str = "iou",
        beta_nms: float = 1.0,
    ) -> None:
        super().__init__()
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        self.max_detections = max_detections
        self.min_size = min_size
        self.max_candidates = max_candidates
        self.set_candidates = set_candidates
        if nms_kind not in ("iou", "diou"):
            raise UserError(f"postprocess.nms_kind={nms_kind}: choose iou or diou")
        self.nms_kind, self.beta_nms = nms_kind, beta_nms

    def most_detections(self, num_classes: int) -> int | None:
        """Return how many detections an image has at most; None if nothing limits them."""
        of_classes = None if self.max_candidates is None else num_classes * self.max_candidates
        known = [number for number in (self.max_detections, of_classes) if number is not None]
        return min(known, default=None)

    def forward(
        self, boxes: Iterable[Tensor], scores: Iterable[Tensor], batch: Batch, preprocess: Preprocess
    ) -> list[Detections]:
        """Return the detections of each image: boxes float [R, C or 1, 4] xyxy on the canvas, scores float [R, C]."""
        return [
            self.one_image(*args, preprocess)
            for args in zip(boxes, scores, batch.sizes, batch.original_sizes, strict=True)
        ]

    def one_image(
        self, boxes: Tensor, scores: Tensor, size: Size, original_size: Size, preprocess: Preprocess
    ) -> Detections:
        """Return the detections of one image; arguments as in `forward`."""
        region, labels = torch.nonzero(scores > self.score_threshold, as_tuple=True)
        scores, order = scores[region, labels].sort(descending=True, stable=True)
        region, labels = region[order], labels[order]
        if self.max_candidates is not None and len(scores) > self.max_candidates:
            among = rank_in_group(labels) < self.max_candidates
            region, labels, scores = region[among], labels[among], scores[among]
        boxes = clip_boxes_to_image(boxes[region, labels if boxes.shape[1] > 1 else 0], size)
        found = preprocess.to_original(boxes, original_size)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_size).all(dim=1)
        large &= (found[:, 2:] > found[:, :2]).all(dim=1)  # not wholly in the bars of a letterbox
        boxes, found, scores, labels = boxes[large], found[large], scores[large], labels[large]
        if self.nms_kind == "diou":
            keep = best_after_diou_nms(boxes, labels, self.nms_iou, self.max_detections, beta=self.beta_nms)
        else:
            keep = best_after_nms(boxes, scores, labels, self.nms_iou, self.max_detections)
        return Detections(boxes=found[keep].float(), scores=scores[keep].float(), labels=labels[keep])
