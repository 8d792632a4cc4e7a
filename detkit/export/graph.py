"""Express a detector as a function of tensors alone, with outputs of fixed size.

Symbols: B images, N boxes of an image, C classes, P regions, K detections.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.errors import UserError
from detkit.core.structures import Batch
from detkit.export.batched_nms import survivors
from detkit.export.frame import clip, content_mask, to_original
from detkit.export.padded_proposals import propose, read_regions, select
from detkit.image.preprocess import fixed_canvas
from detkit.model.detector import Detector
from detkit.model.layers.padding import has_whole_strides, settle_padding
from detkit.model.one_stage import OneStageDetector
from detkit.model.postprocess import NMSPostprocess
from detkit.model.proposer.precomputed import PrecomputedProposals
from detkit.model.proposer.rpn import RPN
from detkit.model.roi_head.fast_rcnn import FastRCNNHead
from detkit.model.roi_pool import CropWarp, PSRoIAlign, PSRoIPool, RoIAlign, RoIPool
from detkit.model.two_stage import TwoStageDetector

OUTPUTS = ("boxes", "scores", "labels", "count")


class Graph(nn.Module):
    """The detections of a batch, as `Detector.predict` gives them, in tensors of a fixed size.

    detector: in eval mode, folded; its paddings are settled in place where they are constants. Raises UserError for
    one that cannot be written.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        if not isinstance(detector, (OneStageDetector, TwoStageDetector)):
            raise UserError(f"{type(detector).__name__} cannot be exported: only one-stage and two-stage detectors can")
        self.detector = detector
        settings = detector.postprocess
        if not isinstance(settings, NMSPostprocess):
            raise UserError(f"model.postprocess={type(settings).__name__} cannot be exported, NMSPostprocess can")
        self.settings = settings
        if self.settings.nms_kind != "iou":
            raise UserError(
                f"postprocess.nms_kind={self.settings.nms_kind} cannot be exported: ONNX has no operator for it; with "
                "postprocess.nms_kind=iou the file suppresses by plain IoU"
            )
        most = self.settings.most_detections(detector.num_classes)
        if most is None:
            raise UserError(
                "model.postprocess.max_detections=null cannot be exported: a file's output has a size; export with "
                "postprocess.max_detections=300"
            )
        self.most: int = most
        pool = getattr(getattr(detector, "roi_head", None), "roi_pool", None)
        if pool is not None and not isinstance(pool, (RoIAlign, RoIPool, PSRoIAlign, PSRoIPool, CropWarp)):
            raise UserError(f"model.roi_pool={type(pool).__name__} cannot be exported: only detkit's own poolers can")
        if isinstance(pool, PSRoIPool) and pool.convention == "torchvision":
            raise UserError(
                "model.roi_pool.convention=torchvision cannot be exported: ONNX has no operator for regions rounded to "
                "whole cells; this detector runs with runtime=compiled, and is written if trained with convention=caffe"
            )
        if has_whole_strides(detector.preprocess):
            settle_padding(detector)
        self.covered = fixed_canvas(detector.preprocess) is not None and detector.preprocess.pad_multiple == 1

    @property
    def takes_regions(self) -> bool:
        """Whether the regions in which it looks come from outside."""
        return isinstance(getattr(self.detector, "proposer", None), PrecomputedProposals)

    def forward(
        self, images: Tensor, sizes: Tensor, original_sizes: Tensor, proposals: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """images: uint8 [B, 3, H, W], canvases as `Batch` has them; sizes, original_sizes: int64 [B, 2] of (h, w);
        proposals: float32 [B, P, 4] xyxy on the canvas, best first, an image that has fewer filled up with zeros.

        Returns boxes float32 [B, K, 4] xyxy in pixels of the files, scores float32 [B, K], descending, labels int64
        [B, K], filled up with 0, 0 and -1, and how many are detections, int64 [B].
        """
        detector = self.detector
        pixels = (images.to(detector.pixel_mean.dtype) - detector.pixel_mean) / detector.pixel_std
        if not self.covered:
            pixels = torch.where(content_mask(sizes, images.shape[-2], images.shape[-1]), pixels, 0.0)
        features = detector.neck(detector.backbone(pixels))
        if isinstance(detector, OneStageDetector):
            boxes, scores = detector.dense_head(features, Batch(images, [], [], []))
        else:
            if proposals is None:
                regions, real = propose(cast(RPN, detector.proposer), features, images, sizes, original_sizes)
            else:
                regions, real = select(cast(PrecomputedProposals, detector.proposer), proposals, sizes)
            boxes, scores = read_regions(cast(FastRCNNHead, detector.roi_head), features, regions)
            scores = scores * real[:, :, None]
        return self.postprocess(boxes, scores, sizes, original_sizes)

    def postprocess(
        self, boxes: Tensor, scores: Tensor, sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `NMSPostprocess`, of boxes [B, N, C or 1, 4] on the canvas and scores [B, N, C]; returns as `forward`."""
        settings = self.settings
        scores = scores.transpose(1, 2)  # [B, C, N]
        boxes = clip(boxes.transpose(1, 2), sizes)  # [B, C or 1, N, 4]
        found = to_original(boxes, self.detector.preprocess, sizes, original_sizes)
        large = ((boxes[..., 2:] - boxes[..., :2]) >= settings.min_size).all(dim=-1)
        large = large & (found[..., 2:] > found[..., :2]).all(dim=-1)
        _, num_classes, num_boxes = scores.shape
        if settings.max_candidates is not None:
            top, index = scores.topk(torch.sym_min(settings.max_candidates, num_boxes), dim=2)
            scores = torch.zeros_like(scores).scatter(2, index, top)
        scores = torch.where((scores > settings.score_threshold) & large, scores, -torch.inf)
        if boxes.shape[1] == 1:
            left = survivors(boxes.squeeze(1), scores, settings.nms_iou)
        else:  # every class has boxes of its own
            left = survivors(boxes.flatten(0, 1), scores.flatten(0, 1)[:, None], settings.nms_iou).view_as(scores)
        scores = torch.where(left, scores, -torch.inf).flatten(1)  # [B, C * N]
        count = torch.sym_min(self.most, num_classes * num_boxes)
        best, index = scores.topk(count, dim=1)
        label = index // num_boxes
        column = index if boxes.shape[1] > 1 else index - label * num_boxes
        boxes = found.flatten(1, 2).gather(1, column[..., None].expand(-1, -1, 4))
        real = best > -torch.inf
        rest = cast(int, self.most - count)  # a symbol while it is traced
        return (
            F.pad(torch.where(real[..., None], boxes, 0.0), (0, 0, 0, rest)),
            F.pad(torch.where(real, best, 0.0), (0, rest)),
            F.pad(torch.where(real, label, -1), (0, rest), value=-1),
            real.sum(dim=1),
        )
