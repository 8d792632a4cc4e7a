"""Assignment of objects to points instead of anchors (FCOS: Tian et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.ops.assign.match import IGNORE, NEGATIVE

# Symbols: N points, M ground truths.


def ltrb_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Compute distances of points to the edges of boxes, (left, top, right, bottom): float [..., 4], negative outside.

    points [..., 2] of (x, y), boxes [..., 4] xyxy; the shapes before the last dimension broadcast.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def match_points(points: Tensor, reach: Tensor, ranges: Tensor, gt_boxes: Tensor, difficult: Tensor) -> Tensor:
    """Match points to ground truths: int64 [N], an index >= 0, NEGATIVE or IGNORE (FCOS, section 3.2).

    A point is assigned a ground truth that it lies in, at most `reach` [N] pixels (in x and in y) from its centre, if
    the distance to its farthest edge is within `ranges` [N, 2], which selects the level; of several the smallest.
    points: float [N, 2] of (x, y); gt_boxes: [M, 4] xyxy. Difficult ones (bool [M]) are never matched; points in one
    that are not assigned another are IGNORE.
    """
    if len(gt_boxes) == 0 or len(points) == 0:
        return torch.full((len(points),), NEGATIVE, device=points.device)
    distances = ltrb_distances(points[:, None], gt_boxes[None])  # [N, M, 4]
    inside = distances.amin(dim=2) > 0
    centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
    near = (points[:, None] - centres[None]).abs().amax(dim=2) < reach[:, None]
    farthest = distances.amax(dim=2)
    own_level = (farthest > ranges[:, :1]) & (farthest < ranges[:, 1:])
    area = (gt_boxes[:, 2:] - gt_boxes[:, :2]).prod(dim=1).expand(len(points), -1)  # [N, M]
    possible = inside & near & own_level & ~difficult
    smallest, gt = area.masked_fill(~possible, torch.inf).min(dim=1)
    matches = torch.where(smallest.isfinite(), gt, NEGATIVE)
    return torch.where((matches == NEGATIVE) & (inside & difficult).any(dim=1), IGNORE, matches)
