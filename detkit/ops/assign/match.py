"""Assign to each anchor or proposal a ground truth, background or ignore."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from detkit.ops.assign.objects import Objects, match_each
from detkit.ops.box import box_iof

NEGATIVE = -1  # background
IGNORE = -2  # ignored: takes no part in the loss

DIFFICULT_SHARE = 0.5  # a box with at least this share of its area in a difficult object or a crowd is ignored
BLOCK = 128  # boxes of a row whose highest IoU is kept
PAIRS = 2**18  # overlaps computed at once: what is in between stays in the cache


def match(iou: Tensor, *, positive: float, negative: float, force_best: bool = False) -> Tensor:
    """Match boxes to ground truths by IoU: int64 [N], an index >= 0, NEGATIVE (background) or IGNORE (ignored).

    iou: [M, N] of M ground truths with N boxes; M = 0 gives all NEGATIVE. A box is assigned its ground truth of highest
    IoU if that is at least `positive`; it is NEGATIVE below `negative` and IGNORE in the gap. With `force_best` every
    box that attains the highest IoU of a ground truth, ties included, is positive at any IoU above 0, for the ground
    truth that it overlaps most (Faster R-CNN, section 3.1.2).
    """
    num_objects, num_boxes = iou.shape
    if num_objects == 0 or num_boxes == 0:
        return iou.new_full((num_boxes,), NEGATIVE, dtype=torch.int64)
    best_iou, best = iou.max(dim=0)
    matches = best.clone()
    matches[best_iou < positive] = IGNORE
    matches[best_iou < negative] = NEGATIVE
    if force_best:
        highest = iou.max(dim=1, keepdim=True).values  # [M, 1]
        forced = ((iou == highest) & (highest > 0)).any(dim=0)
        matches = torch.where(forced, best, matches)
    return matches


def match_bipartite(iou: Tensor, image: Tensor, num_images: int, *, positive: float) -> Tensor:
    """Match boxes one to one, then by threshold: int64 [B, N], a row of `iou` or NEGATIVE (SSD, section 2.2).

    iou: [G, N] of the ground truths of all B images with N boxes, which are the same in each; image: int64 [G], the
    image of each ground truth. First every ground truth is given a box of its own, greedily: the pair of highest IoU is
    matched and leaves (ties go to the first ground truth and its first box), and so on while an IoU is above 0. Each
    other box is then assigned its ground truth of highest IoU if that is above `positive`, at least 0.

    Both sides rank a pair by its IoU, so the greedy matching is the only stable one: every ground truth asks for its
    best box, those refused ask for their next (Gale & Shapley 1962), all at once.
    """
    num_objects, num_boxes = iou.shape
    none = num_images * num_boxes  # the place of ground truths that have no box
    if num_objects == 0 or num_boxes == 0:
        return iou.new_full((num_images, num_boxes), NEGATIVE, dtype=torch.int64)
    who = torch.arange(num_objects, device=iou.device)
    left = F.pad(iou, (0, -num_boxes % BLOCK)).unflatten(1, (-1, BLOCK))  # what each may still ask for
    tops = left.amax(dim=2)  # so that a refusal costs a block and not a row

    rows, block = torch.nonzero(tops > positive, as_tuple=True)
    pair, cell = torch.nonzero(left[rows, block] > positive, as_tuple=True)
    rows, box = rows[pair], block[pair] * BLOCK + cell
    best = winners(image[rows] * num_boxes + box, iou[rows, box], rows, none, nobody=num_objects)

    asking, value, place = who, torch.zeros_like(iou[:, 0]), torch.full_like(who, none)
    while len(asking) > 0:
        value[asking], block = tops[asking].max(dim=1)
        box = block * BLOCK + left[asking, block].argmax(dim=1)
        place[asking] = torch.where(value[asking] > 0, image[asking] * num_boxes + box, none)
        holder = winners(place, value, who, none + 1, nobody=num_objects)
        asking = torch.nonzero((holder[place] != who) & (place < none)).flatten()
        box = place[asking] % num_boxes
        block, cell = box // BLOCK, box % BLOCK
        left[asking, block, cell] = -1
        tops[asking, block] = left[asking, block].amax(dim=1)
    matches = torch.where(holder < num_objects, holder, F.pad(best, (0, 1), value=num_objects))[:none]
    return torch.where(matches < num_objects, matches, NEGATIVE).view(num_images, num_boxes)


def winners(place: Tensor, value: Tensor, who: Tensor, num_places: int, *, nobody: int) -> Tensor:
    """Find the claimant of highest value at each place, ties to the lowest number: int64 [num_places], or `nobody`.

    place, who: int64 [P], value: [P], of P claims; `nobody` is larger than any number in `who`.
    """
    highest = value.new_full((num_places + 1,), -torch.inf).scatter_reduce(0, place, value, "amax")
    place = torch.where(value == highest[place], place, num_places)  # the last one is for claims that lose
    return torch.full_like(highest, nobody, dtype=torch.int64).scatter_reduce(0, place, who, "amin")[:num_places]


def match_boxes(
    boxes: Tensor,
    gt_boxes: Tensor,
    difficult: Tensor,
    *,
    positive: float,
    negative: float,
    force_best: bool = False,
) -> Tensor:
    """Match boxes xyxy [N, 4] to gt_boxes [M, 4] as `match` does; difficult ones (bool [M]) are never matched.

    A NEGATIVE box with half its area or more in a difficult ground truth becomes IGNORE: the model is taught neither
    that it is an object nor that it is background.
    """
    iou = box_iou(gt_boxes, boxes)
    iou[difficult] = 0
    matches = match(iou, positive=positive, negative=negative, force_best=force_best)
    return ignore_difficult(matches, boxes, gt_boxes[difficult])


def match_default_boxes(boxes: Tensor, objects: Objects, *, positive: float) -> Tensor:
    """Match default boxes xyxy [N, 4] to the objects of B images by `match_bipartite`: int64 [B, N].

    The result holds indices of `objects`. Difficult objects are treated as in `match_boxes`.
    """
    rows = max(1, PAIRS // max(1, len(boxes)))
    iou = torch.cat([box_iou(part, boxes) for part in objects.boxes.split(rows)])
    iou.masked_fill_(objects.difficult[:, None], 0)
    matches = match_bipartite(iou, objects.image, len(objects.counts), positive=positive)
    return ignore_difficult_objects(matches, boxes, objects)


def match_anchors(
    boxes: Tensor, objects: Objects, *, positive: float, negative: float, force_best: bool = False
) -> Tensor:
    """Match anchors xyxy [N, 4], the same in each of B images, by `match_boxes`: int64 [B, N], indices of `objects`.

    Overlaps are computed image by image, since [G, N] of a pyramid of anchors are too many, but without waiting for the
    device.
    """

    def of_image(gt_boxes: Tensor, difficult: Tensor) -> Tensor:
        iou = box_iou(gt_boxes, boxes).masked_fill_(difficult[:, None], 0)
        return match(iou, positive=positive, negative=negative, force_best=force_best)

    return ignore_difficult_objects(match_each(objects, of_image), boxes, objects)


def ignore_difficult(matches: Tensor, boxes: Tensor, difficult_boxes: Tensor) -> Tensor:
    """Turn NEGATIVE into IGNORE in `matches` [N] for boxes with half their area or more in a difficult object."""
    if len(difficult_boxes) == 0:
        return matches
    covered = (box_iof(boxes, difficult_boxes) >= DIFFICULT_SHARE).any(dim=1)
    return torch.where((matches == NEGATIVE) & covered, IGNORE, matches)


def ignore_difficult_objects(matches: Tensor, boxes: Tensor, objects: Objects) -> Tensor:
    """Apply `ignore_difficult` to boxes [N, 4] that are the same in each of B images: matches [B, N]."""
    hard = torch.nonzero(objects.difficult).flatten()
    if len(hard) == 0:
        return matches
    covered = (box_iof(boxes, objects.boxes[hard]) >= DIFFICULT_SHARE).T.long()  # [D, N]
    covering = torch.zeros_like(matches).index_add_(0, objects.image[hard], covered)
    return torch.where((matches == NEGATIVE) & (covering > 0), IGNORE, matches)
