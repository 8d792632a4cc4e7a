"""SimOTA: each object takes as many cells as it is seen well by, the cheapest ones (Ge et al. 2021, section 2.1).

Symbols: N points (cells of an image over all levels), M objects, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from detkit.ops.box import box_iof
from detkit.ops.match import BETWEEN, DIFFICULT_SHARE, NEGATIVE

IOU_WEIGHT = 3.0
OUTSIDE = 1e5  # cost of a point that lies in the box or near its centre, but not in both
IMPOSSIBLE = 1e9  # of one that lies in neither


def assign_simota(
    points: Tensor,
    strides: Tensor,
    predicted: Tensor,
    scores: Tensor,
    boxes: Tensor,
    labels: Tensor,
    difficult: Tensor,
    *,
    radius: float = 2.5,
    num_candidates: int = 10,
) -> tuple[Tensor, Tensor]:
    """The object of each point, int64 [N] (an index >= 0, NEGATIVE, or BETWEEN), and its IoU with it, float [N].

    points: float [N, 2] (x, y) pixels, the middles of their cells; strides: [N]. predicted: [N, 4] boxes and scores:
    [N, C] class probabilities (times objectness) that the network now gives. boxes [M, 4], labels [M], difficult [M].

    A point may answer for an object if it lies in its box, or within `radius` cells of its centre. The cost of a pair
    is the cross-entropy of the root of the scores plus 3 times -log IoU. An object takes the k cheapest points, k the
    sum of its `num_candidates` highest IoUs, at least 1; a point wanted by several goes where it is cheapest.
    Difficult objects take none; what lies in one, as a point or by half of its box, is BETWEEN.
    """
    matches = torch.full((len(points),), NEGATIVE, dtype=torch.int64, device=points.device)
    overlaps = predicted.new_zeros(len(points))
    if difficult.any():
        within = _in_boxes(points, boxes[difficult]).any(dim=0)
        matches[within | (box_iof(predicted, boxes[difficult]) >= DIFFICULT_SHARE).any(dim=1)] = BETWEEN
    objects = torch.nonzero(~difficult).flatten()
    if len(objects) == 0 or len(points) == 0:
        return matches, overlaps
    boxes, labels = boxes[objects], labels[objects]
    in_box, near = _in_boxes(points, boxes), _near_centres(points, strides, boxes, radius)  # [M, N]
    candidates = torch.nonzero((in_box | near).any(dim=0)).flatten()  # the costs of all others are not computed
    if len(candidates) == 0:
        return matches, overlaps
    iou = box_iou(boxes, predicted[candidates])
    in_box, near = in_box[:, candidates], near[:, candidates]
    cost = _class_cost(scores[candidates], labels) - IOU_WEIGHT * (iou + 1e-8).log()
    cost = cost + OUTSIDE * ~(in_box & near) + IMPOSSIBLE * ~(in_box | near)

    top = min(num_candidates, len(candidates))
    counts = (iou * (in_box | near)).topk(top, dim=1).values.sum(dim=1).int().clamp(min=1)  # k of each object
    cheapest = cost.topk(top, dim=1, largest=False)
    taken = torch.arange(top, device=cost.device) < counts[:, None]
    taken &= cheapest.values < IMPOSSIBLE / 2
    wanted = torch.zeros_like(cost, dtype=torch.bool).scatter_(1, cheapest.indices, taken)
    best = cost.masked_fill(~wanted, torch.inf).argmin(dim=0)  # where several objects want a point
    chosen = torch.nonzero(wanted.any(dim=0)).flatten()
    owner = best[chosen]
    matches[candidates[chosen]] = objects[owner]
    overlaps[candidates[chosen]] = iou[owner, chosen]
    return matches, overlaps


def _class_cost(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy over the classes of the root of the scores [N, C], were the label right: [M, N]."""
    root = scores.sqrt()
    present = -root.log().clamp(min=-100).T  # [C, N]
    absent = -(1 - root).log().clamp(min=-100).T
    return absent.sum(dim=0) + (present - absent)[labels]


def _in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points [N, 2] lie inside which boxes [M, 4]: bool [M, N]."""
    return ((points > boxes[:, None, :2]) & (points < boxes[:, None, 2:])).all(dim=2)


def _near_centres(points: Tensor, strides: Tensor, boxes: Tensor, radius: float) -> Tensor:
    """Which points lie in the square of `radius` of their own cells around the centres of boxes: bool [M, N]."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((points - centres[:, None]).abs() < radius * strides[:, None]).all(dim=2)
