"""Assignment of objects to anchors and cells in YOLO v2 and v3.

Symbols: M objects, K anchor shapes over all levels, N rows (predictions) = cells x anchors of an image over all levels,
in the order level, row, column, anchor (that of `detkit.model.dense.flatten_head`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from detkit.core.structures import Size
from detkit.ops.assign.match import DIFFICULT_SHARE, IGNORE, NEGATIVE
from detkit.ops.assign.objects import Objects, objects_of
from detkit.ops.box import paired_iof
from detkit.ops.yolo_coder import cell_grid, centre_size


@dataclass(frozen=True)
class AnchorRows:
    """The cell, anchor and stride of each of the N rows of an image, and where to find the row of a cell.

    cells: float [N, 2] (column, row). anchors: float [N, 2] (w, h) pixels. strides: float [N, 2] (x, y) pixels. shapes:
    float [K, 2], all anchors; steps: float [K, 2], the strides of their levels; places: K rows of 5 numbers, of each
    anchor its level's first row, rows, columns and anchors per cell, and its index in the cell.
    """

    cells: Tensor
    anchors: Tensor
    strides: Tensor
    shapes: Tensor
    steps: Tensor
    places: list[list[int]]

    @cached_property
    def table(self) -> Tensor:
        """Return the places as int64 [K, 5]; for losses alone, since in an exported graph they are no numbers yet."""
        return torch.tensor(self.places, device=self.shapes.device)


def anchor_rows(
    grids: Sequence[Size], strides: Sequence[int | tuple[float, float]], anchors: Sequence[Tensor]
) -> AnchorRows:
    """Lay out the rows of grids of (rows, columns), by level; strides: pixels, or (x, y); anchors: [A, 2] each."""
    cells, sizes, strides_of_rows, steps, places, first = [], [], [], [], [], 0
    for grid, stride, shapes in zip(grids, strides, anchors, strict=True):
        level_cells, per_cell = cell_grid(grid, shapes.device), len(shapes)
        count = level_cells.shape[0]  # not `len`, which would be a number in an exported graph
        cells.append(level_cells.repeat_interleave(per_cell, dim=0))
        sizes.append(shapes.repeat(count, 1))
        pair = stride if isinstance(stride, tuple) else (stride, stride)
        step = torch.stack([shapes.new_full((), side) for side in pair])
        strides_of_rows.append(step.expand(count * per_cell, 2))
        steps.append(step.expand(per_cell, 2))
        places += [[first, *grid, per_cell, place] for place in range(per_cell)]
        first += count * per_cell
    shapes = torch.cat(list(anchors))
    return AnchorRows(torch.cat(cells), torch.cat(sizes), torch.cat(strides_of_rows), shapes, torch.cat(steps), places)


def shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Compute IoU of concentric shapes: sizes [M, 2], anchors [K, 2] of positive (w, h) -> float [M, K]."""
    common = torch.minimum(sizes[:, None], anchors[None]).prod(dim=2)
    return common / (sizes.prod(dim=1)[:, None] + anchors.prod(dim=1)[None] - common)


def object_rows(boxes: Tensor, layout: AnchorRows, extra_iou: float | None = None) -> tuple[Tensor, Tensor]:
    """Find the rows that are responsible for objects: objects and rows, int64 [P] each, ordered by object.

    boxes: float [M, 4] xyxy pixels. Responsible is, of all K anchors, that of the most similar shape (IoU), in the cell
    that holds the object's centre; with `extra_iou` so is every anchor of a higher IoU.
    """
    centre, size = centre_size(boxes)
    iou = shape_iou(size, layout.shapes)  # [M, K]
    chosen = torch.zeros_like(iou, dtype=torch.bool)
    if len(boxes):
        chosen.scatter_(1, iou.argmax(dim=1, keepdim=True), True)
    if extra_iou is not None:
        chosen |= iou > extra_iou
    objects, anchor = torch.nonzero(chosen, as_tuple=True)
    first, rows, columns, per_cell, place = layout.table[anchor].unbind(dim=1)
    cell = (centre[objects] / layout.steps[anchor]).long()
    column = torch.minimum(cell[:, 0], columns - 1).clamp(min=0)
    row = torch.minimum(cell[:, 1], rows - 1).clamp(min=0)
    return objects, first + (row * columns + column) * per_cell + place


def assign_rows(
    predicted: Tensor,
    boxes: Tensor,
    difficult: Tensor,
    layout: AnchorRows,
    *,
    ignore_iou: float,
    extra_iou: float | None = None,
) -> Tensor:
    """Assign objects to the rows of an image: int64 [N], an index >= 0, NEGATIVE (background) or IGNORE (ignored).

    predicted: float [N, 4], the boxes that the network now predicts; boxes [M, 4], difficult bool [M]: the objects. Of
    several objects a row is assigned the last in the list. Unassigned predictions are IGNORE if they overlap any
    object by more than `ignore_iou`, lie in a difficult one by half their area, or if a difficult object would have had
    the row.
    """
    labels = torch.zeros_like(difficult, dtype=torch.int64)
    objects = objects_of([{"boxes": boxes, "labels": labels, "difficult": difficult}])
    return assign_batch_rows(predicted[None], objects, layout, ignore_iou=ignore_iou, extra_iou=extra_iou)[0]


def assign_batch_rows(
    predicted: Tensor, objects: Objects, layout: AnchorRows, *, ignore_iou: float, extra_iou: float | None = None
) -> Tensor:
    """Assign objects to the rows of B images as `assign_rows` does: predicted float [B, N, 4] -> int64 [B, N].

    The result holds indices of `objects`. Overlaps are computed image by image, since those of all objects with their
    images' rows are too many, but without waiting for the device.
    """
    parts = objects.boxes.split(objects.counts)
    spared = torch.stack(
        [(box_iou(part, rows) > ignore_iou).any(dim=0) for part, rows in zip(parts, predicted, strict=True)]
    )
    claiming, row = object_rows(objects.boxes, layout, extra_iou)  # [P] claims
    everywhere = spared.numel()
    place, hard = objects.image[claiming] * spared.shape[1] + row, objects.difficult[claiming]
    difficult = torch.nonzero(objects.difficult).flatten()
    if len(difficult) > 0:
        image = objects.image[difficult]
        covered = paired_iof(predicted[image], objects.boxes[difficult, None]) >= DIFFICULT_SHARE  # [D, N]
        spared = spared | (torch.zeros_like(spared, dtype=torch.int64).index_add_(0, image, covered.long()) > 0)
        refused = torch.zeros_like(spared).flatten().index_fill_(0, place[hard], True)
        spared = spared | refused.view_as(spared)
    matches = torch.where(spared, IGNORE, NEGATIVE).flatten()
    claims = torch.where(hard, everywhere, place)  # the last place is for difficult objects
    return F.pad(matches, (0, 1)).scatter_reduce(0, claims, claiming, "amax")[:everywhere].view_as(spared)
