"""The ground truths of a batch in one list, so that assigning them takes as many operators as for one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from detkit.core.structures import Target


class Objects(NamedTuple):
    """G ground truths of B images, image by image.

    boxes: float32 [G, 4] xyxy on the canvas. labels: int64 [G]. difficult: bool [G]. image: int64 [G], ascending, the
    image of each. counts: of each of the B images; numbers and no tensor, so that reading them waits for no device.
    """

    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    image: Tensor
    counts: list[int]


def objects_of(targets: Sequence[Target]) -> Objects:
    """Collect the ground truths of a batch of one image or more; images may have none."""
    counts = [len(target["boxes"]) for target in targets]
    boxes = torch.cat([target["boxes"] for target in targets])
    return Objects(
        boxes,
        torch.cat([target["labels"] for target in targets]),
        torch.cat([target["difficult"] for target in targets]),
        torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(boxes.device),
        counts,
    )


def match_each(objects: Objects, match: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Run `match(boxes, difficult)` -> int64 [N] for every image: [B, N], indices of the objects of the batch."""
    rows, first = [], [0, *accumulate(objects.counts)]
    parts = objects.boxes.split(objects.counts), objects.difficult.split(objects.counts)
    for start, boxes, difficult in zip(first, *parts, strict=False):
        matches = match(boxes, difficult)
        rows.append(torch.where(matches >= 0, matches + start, matches))
    return torch.stack(rows)
