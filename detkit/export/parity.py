"""Compare the detections of two detectors: the check of an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch

from detkit.core.structures import Detections


class Difference(NamedTuple):
    """How far the detections of an image are from those that they should be.

    box_px, score: largest differences between partners. counts: detections, wanted and found. unmatched: those of
    either side without a partner, but for the ones whose score is so near the limit that rounding decides on them.
    """

    box_px: float
    score: float
    counts: tuple[int, int]
    unmatched: int


class Parity(TypedDict):
    """How far two detectors are apart over some images: the largest of each `Difference`, and sums.

    detections: that were wanted. passed: whether every one has a partner within what is allowed.
    """

    images: int
    detections: int
    box_px: float
    score: float
    count_mismatch: int
    unmatched: int
    passed: bool


def difference(
    wanted: Detections, found: Detections, *, threshold: float, most: int | None, box_px: float, score: float
) -> Difference:
    """Compare the detections of one image.

    A partner has the same label, and box and score within ten times `box_px` and `score`, which are what is allowed;
    of several the nearest. threshold, most: a detection's score is above, and there are no more of them.
    """
    near = (wanted.boxes[:, None] - found.boxes[None]).abs().amax(dim=2)  # [D, F]
    off = (wanted.scores[:, None] - found.scores[None]).abs()
    same = (wanted.labels[:, None] == found.labels[None]) & (off <= 10 * score) & (near <= 10 * box_px)
    cost = torch.where(same, near / box_px + off / score, torch.inf)
    box, gap, unmatched = 0.0, 0.0, 0
    for one, costs in ((wanted, cost), (found, cost.T)):
        if len(one) == 0:
            continue
        least, partner = costs.min(dim=1) if costs.shape[1] else (torch.full((len(one),), torch.inf), None)
        has = least < torch.inf
        limit = one.scores.min() if len(one) == most else torch.tensor(threshold)
        unmatched += int((~has & (one.scores > limit + 10 * score)).sum())
        if partner is not None and has.any():
            rows = torch.arange(len(one))[has], partner[has]
            columns = (near, off) if one is wanted else (near.T, off.T)
            box = max(box, float(columns[0][rows].max()))
            gap = max(gap, float(columns[1][rows].max()))
    return Difference(box, gap, (len(wanted), len(found)), unmatched)


def summarise(differences: Sequence[Difference], *, box_px: float, score: float) -> Parity:
    """JSON-ready: the largest differences over images, and whether they are allowed."""
    counts = [one.counts for one in differences]
    farthest = max((one.box_px for one in differences), default=0.0)
    gap = max((one.score for one in differences), default=0.0)
    unmatched = sum(one.unmatched for one in differences)
    return {
        "images": len(differences),
        "detections": sum(wanted for wanted, _ in counts),
        "box_px": farthest,
        "score": gap,
        "count_mismatch": max((abs(wanted - found) for wanted, found in counts), default=0),
        "unmatched": unmatched,
        "passed": unmatched == 0 and farthest <= box_px and gap <= score,
    }
