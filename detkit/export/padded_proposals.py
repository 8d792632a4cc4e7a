"""Compute the proposals of a batch, best first, padded to one number, with a validity mask."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from detkit.export.batched_nms import survivors
from detkit.export.frame import clip
from detkit.model.proposer.precomputed import PrecomputedProposals
from detkit.model.proposer.rpn import RPN
from detkit.model.roi_head.fast_rcnn import FastRCNNHead
from detkit.model.roi_head.rfcn import RFCNHead
from detkit.model.roi_pool import CropWarp, PSRoIAlign, PSRoIPool, RoIAlign, RoIPool
from detkit.ops.coder import decode
from detkit.ops.pool.crop_warp import add_context

# Symbols: B images, P regions of an image, C classes. Sizes are int64 [B, 2] of (h, w).


def propose(
    rpn: RPN, features: list[Tensor], images: Tensor, sizes: Tensor, original_sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """The proposals of `RPN`, float32 [B, P, 4] on the canvas, best first, and which of them are some: bool [B, P]."""
    smallest = (rpn.min_size * (sizes[:, 0].double() / original_sizes[:, 0].double())).float()[:, None, None]
    boxes, scores = [], []
    for logits, deltas, anchors in zip(*rpn.head(features), rpn.anchors(features, images.shape[-2:]), strict=True):
        if rpn.filter_first:
            every = clip(decode(deltas, anchors), sizes)
            logits = torch.where(((every[..., 2:] - every[..., :2]) >= smallest).all(dim=-1), logits, -torch.inf)
        top, index = logits.topk(torch.sym_min(rpn.pre_nms[1], logits.shape[1]), dim=1)  # [B, K]
        picked = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        level = clip(decode(picked, anchors[index]), sizes)
        large = ((level[..., 2:] - level[..., :2]) >= smallest).all(dim=-1)
        top = torch.where(large, top, -torch.inf)
        left = survivors(level, top[:, None], rpn.nms_iou)[:, 0]
        boxes.append(level)
        scores.append(torch.where(left, top, -torch.inf))
    all_boxes, all_scores = torch.cat(boxes, dim=1), torch.cat(scores, dim=1)
    best, index = all_scores.topk(torch.sym_min(rpn.post_nms[1], all_scores.shape[1]), dim=1)  # [B, P]
    return all_boxes.gather(1, index[..., None].expand(-1, -1, 4)), best > -torch.inf


def select(proposer: PrecomputedProposals, proposals: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """What `PrecomputedProposals` makes of regions, [B, P, 4] best first: clipped, and which are used, bool [B, P]."""
    boxes = clip(proposals[:, : proposer.num_proposals[1]], sizes)
    sides = boxes[..., 2:] - boxes[..., :2]
    used = ((sides >= proposer.min_size) & (sides > 0)).all(dim=-1)  # what an image is filled up with has no sides
    if proposer.same_at > 0:
        cells = torch.round(boxes / proposer.same_at).long()
        key = ((cells[..., 0] * 4096 + cells[..., 1]) * 4096 + cells[..., 2]) * 4096 + cells[..., 3]
        same = (key[:, :, None] == key[:, None, :]) & used[:, None, :]  # [B, P, P], of a region and another
        earlier = torch.arange(key.shape[1], device=key.device)
        used = used & ~(same & (earlier[:, None] > earlier[None, :])).any(dim=2)
    return boxes, used


def read_regions(head: FastRCNNHead, features: list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What a region head says of boxes [B, P, 4]: boxes [B, P, C or 1, 4] on the canvas and scores [B, P, C]."""
    num_images, num_regions = boxes.shape[:2]
    images = torch.arange(num_images, device=boxes.device, dtype=boxes.dtype)[:, None, None]
    regions = torch.cat([images.expand(-1, num_regions, 1), boxes], dim=2).flatten(0, 1)  # [B * P, 5]
    if isinstance(head, RFCNHead):
        voting = cast(PSRoIAlign | PSRoIPool, head.roi_pool)
        logits, deltas = head.predictor(head.box_head(features[0]))
        logits, deltas = head.predictor.vote(vote_map(voting, logits, regions), vote_map(voting, deltas, regions))
    else:
        pool = cast(RoIAlign | RoIPool | CropWarp, head.roi_pool)
        pooled = crops(pool, features[0], regions) if isinstance(pool, CropWarp) else pool.read(features, regions)
        logits, deltas = head.predictor(head.box_head(pooled))
    moved = decode(deltas * head.box_std + head.box_mean, regions[:, None, 1:])
    shape = (num_images, num_regions)
    return moved.unflatten(0, shape), head.predictor.scores(logits).unflatten(0, shape)


def vote_map(pool: PSRoIAlign | PSRoIPool, maps: Tensor, regions: Tensor) -> Tensor:
    """What a position-sensitive pooler reads, in operators that ONNX has.

    That is what `PSRoIPool` is made of; for `PSRoIAlign` every cell of all maps is read, of which each map's own is
    kept. maps [B, C * k * k, H, W]; regions [R, 5] of (image, x1, y1, x2, y2) on the canvas -> [R, C, k, k].
    """
    if isinstance(pool, PSRoIPool):
        votes: Tensor = pool.read([maps], regions)
        return votes
    size = pool.size
    read: Tensor = roi_align(maps, regions, size, 1 / pool.strides[0], pool.sampling_ratio, aligned=True)
    cells = read.unflatten(1, (-1, size * size)).flatten(3)  # [R, C, k * k, k * k]
    own: Tensor = (cells * torch.eye(size * size, device=cells.device)).sum(dim=3).unflatten(2, (size, size))
    return own


def crops(pool: CropWarp, images: Tensor, regions: Tensor) -> Tensor:
    """What `CropWarp` cuts out, of all images at once and in an operator that ONNX has.

    images [B, 3, H, W]; regions [R, 5] of (image, x1, y1, x2, y2) on them -> [R, 3, k, k].
    """
    padded = F.pad(images, (1, 1, 1, 1))  # RoIAlign repeats the last pixel, an image goes on as zeros
    boxes = add_context(regions[:, 1:], pool.size, pool.context) + 1
    cut: Tensor = roi_align(padded, torch.cat([regions[:, :1], boxes], dim=1), pool.size, 1.0, 1, aligned=True)
    return cut
