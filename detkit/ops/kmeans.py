"""Anchor shapes by k-means over the shapes of objects, with 1 - IoU as the distance (YOLO9000, section 2).

Symbols: N shapes of objects, K anchors, each (w, h). Everything is float64 and a function of the seed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.ops.assign.yolo_assign import shape_iou

CHUNK = 65536  # shapes compared with all anchors at once


def best_iou(shapes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Find the most similar anchor [K, 2] of each shape [N, 2]: their IoU, float [N], and its index, int64 [N]."""
    found = [shape_iou(part, anchors).max(dim=1) for part in shapes.split(CHUNK)]
    return torch.cat([best.values for best in found]), torch.cat([best.indices for best in found])


def fit_shapes(shapes: Tensor, num_anchors: int, *, seed: int = 0, rounds: int = 300) -> Tensor:
    """Fit K anchor shapes of high mean IoU with the shapes of objects: float64 [K, 2], by ascending area.

    shapes: [N, 2] of positive width and height. The distance is 1 - IoU of concentric shapes, a centroid the mean of
    widths and of heights. Initialised by k-means++ (Arthur & Vassilvitskii 2007). The anchors of the round with the
    highest mean IoU are returned, since a round need not raise it. With fewer distinct shapes than anchors, some
    anchors repeat.
    """
    shapes = shapes.double()
    generator = torch.Generator().manual_seed(seed)
    anchors = _far_apart(shapes, num_anchors, generator)
    best, best_mean, previous = anchors, -1.0, None
    for _ in range(rounds):
        iou, nearest = best_iou(shapes, anchors)
        if iou.mean() > best_mean:
            best, best_mean = anchors, float(iou.mean())
        if previous is not None and torch.equal(nearest, previous):
            break
        previous = nearest
        counts = torch.bincount(nearest, minlength=num_anchors)[:, None]
        sums = torch.zeros_like(anchors).index_add_(0, nearest, shapes)
        anchors = torch.where(counts > 0, sums / counts.clamp(min=1), anchors)  # an anchor of no shape stays
    return best[best.prod(dim=1).argsort()]


def _far_apart(shapes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw initial shapes one by one, the likelier the farther from those before (k-means++)."""
    anchors = shapes[torch.randint(len(shapes), (1,), generator=generator)]
    for _ in range(count - 1):
        distance = (1 - best_iou(shapes, anchors)[0]).clamp(min=0).square() + 1e-12
        drawn = torch.searchsorted(distance.cumsum(0), distance.sum() * torch.rand(1, generator=generator).double())
        anchors = torch.cat([anchors, shapes[drawn.clamp(max=len(shapes) - 1)]])
    return anchors
