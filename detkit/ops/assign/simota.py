"""SimOTA: each object is assigned its k lowest-cost cells, k estimated from the best IoUs (Ge et al. 2021).

Symbols: B images, N points (centres of cells of an image over all levels), G objects of the batch, C classes, P pairs
of an object and a candidate point.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from detkit.ops.assign.match import DIFFICULT_SHARE, IGNORE, NEGATIVE, winners
from detkit.ops.assign.objects import Objects
from detkit.ops.box import paired_iof, paired_iou

IOU_WEIGHT = 3.0
OUTSIDE = 1e5  # cost of a point that lies in the box or near its centre, but not in both


def assign_simota(
    points: Tensor,
    strides: Tensor,
    predicted: Tensor,
    scores: Tensor,
    objects: Objects,
    *,
    radius: float = 2.5,
    num_candidates: int = 10,
) -> tuple[Tensor, Tensor]:
    """Assign objects to points: int64 [B, N] (an index of `objects`, NEGATIVE or IGNORE), and their IoU [B, N].

    points: float [N, 2] (x, y) pixels; strides: [N] of their cells. predicted: [B, N, 4] boxes and scores: [B, N, C]
    class probabilities (times objectness) of the network as it is.

    A point is a candidate for an object if it lies in its box, or within `radius` cells of its centre. The cost of a
    pair is the cross-entropy of the root of the scores plus 3 times -log IoU. An object is assigned its k candidates of
    lowest cost, k the sum of its `num_candidates` highest IoUs, at least 1; of several objects a point goes to the one
    of lowest cost. Difficult objects are never assigned; a point that lies in one, itself or by half its box, is
    IGNORE.
    """
    num_images, num_points = scores.shape[:2]
    in_box, near = _in_boxes(points, objects.boxes), _near_centres(points, strides, objects.boxes, radius)  # [G, N]
    matches = torch.full_like(scores[..., 0], NEGATIVE, dtype=torch.int64)
    hard = torch.nonzero(objects.difficult).flatten()
    if len(hard) > 0:
        covered = paired_iof(predicted[objects.image[hard]], objects.boxes[hard, None]) >= DIFFICULT_SHARE
        spared = torch.zeros_like(matches).index_add_(0, objects.image[hard], (in_box[hard] | covered).long())
        matches = matches.masked_fill(spared > 0, IGNORE)

    owner, point = torch.nonzero((in_box | near) & ~objects.difficult[:, None], as_tuple=True)  # [P], object by object
    place = objects.image[owner] * num_points + point
    boxes = predicted.flatten(0, 1)[place]
    iou = paired_iou(objects.boxes[owner], boxes)
    cost = _class_cost(scores.flatten(0, 1), place, objects.labels[owner]) - IOU_WEIGHT * (iou + 1e-8).log()
    cost = cost + OUTSIDE * ~(in_box & near)[owner, point]

    num_objects, nothing = len(objects.boxes), len(owner)
    highest = F.pad(iou, (0, 1))[_lowest(-iou, owner, num_objects, num_candidates)]  # [G, num_candidates]
    counts = highest.sum(dim=1).int().clamp(min=1)  # k of each object
    cheapest = _lowest(cost, owner, num_objects, num_candidates)
    rank = torch.arange(num_candidates, device=cost.device)
    taken = cheapest[(rank < counts[:, None]) & (cheapest < nothing)]

    place, owner = place[taken], owner[taken]
    everywhere = num_images * num_points
    winner = winners(place, -cost[taken], owner, everywhere, nobody=num_objects)
    matches = torch.where(winner < num_objects, winner, matches.flatten()).view_as(matches)
    overlaps = iou.new_zeros(everywhere + 1)  # the last one is for objects that are beaten
    overlaps[torch.where(winner[place] == owner, place, everywhere)] = iou[taken]
    return matches, overlaps[:everywhere].view_as(matches)


def _class_cost(scores: Tensor, place: Tensor, labels: Tensor) -> Tensor:
    """Compute the binary cross-entropy of P pairs, of the root of the scores [B * N, C] at their points: [P].

    place: int64 [P], a row of `scores`; labels: int64 [P]. Many pairs share a point: its sum over the classes is
    computed once.
    """
    asked = torch.zeros_like(scores[:, 0], dtype=torch.bool)
    asked[place] = True
    seen = torch.nonzero(asked).flatten()
    root = scores[seen].sqrt()
    row = (asked.cumsum(dim=0) - 1)[place]
    right = root[row, labels]
    absent = -(1 - root).log().clamp(min=-100).sum(dim=1)
    return absent[row] + (1 - right).log().clamp(min=-100) - right.log().clamp(min=-100)


def _lowest(values: Tensor, owner: Tensor, num_owners: int, count: int) -> Tensor:
    """List the `count` pairs of lowest value of each owner, ascending: int64 [G, count]; P where there are no more.

    values: float [P]; owner: int64 [P], ascending. Of equal values the first pair comes first.
    """
    order = values.argsort(stable=True)
    order = F.pad(order[owner[order].argsort(stable=True)], (0, 1), value=len(values))
    start = torch.searchsorted(owner, torch.arange(num_owners + 1, device=owner.device))
    place = start[:-1, None] + torch.arange(count, device=owner.device)
    return order[torch.where(place < start[1:, None], place, len(values))]


def _in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Tell which points [N, 2] lie inside which boxes [G, 4]: bool [G, N]."""
    x, y = points.unbind(dim=1)
    left, top, right, bottom = boxes[:, :, None].unbind(dim=1)
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def _near_centres(points: Tensor, strides: Tensor, boxes: Tensor, radius: float) -> Tensor:
    """Tell which points lie within `radius` of their own cells, in x and in y, of the centres of boxes: bool [G, N]."""
    (x, y), reach = points.unbind(dim=1), radius * strides
    centre_x, centre_y = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, :, None].unbind(dim=1)
    return ((x - centre_x).abs() < reach) & ((y - centre_y).abs() < reach)
