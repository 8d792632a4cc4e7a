"""FCOS: every point inside an object predicts its distances to the four edges (Tian et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from detkit.config.instantiate import complete
from detkit.core.structures import Batch, FeatureSpec
from detkit.model.class_rows import labels_of_rows
from detkit.model.dense import AnchorGrid, best_pairs, flatten_head, normal_init, start_at
from detkit.model.dense_head.retina import tower
from detkit.model.part import one_width
from detkit.model.protocols import Part
from detkit.ops.assign.match import IGNORE
from detkit.ops.assign.objects import match_each, objects_of
from detkit.ops.point import ltrb_distances, match_points

# Symbols: B images, N points of an image over all levels, C classes, K candidates.


class FCOSHead(nn.Module):
    """FCOS head: two towers shared by all levels; one sigmoid per class, four distances and a centre-ness per point.

    anchors: an `AnchorGrid` that waits for its strides, one square per cell: its middle is the point, its side the
    unit of the distances. channels, num_convs: of each tower, which has group norms of 32 groups.
    radius: a point farther from an object's centre than so many sides is not its own. The farthest edge of an object
    is between 4 and 8 sides away, on the finest level also nearer and on the coarsest also farther.
    prior, alpha, gamma, num_candidates: as in `RetinaHead`.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        num_classes: int,
        anchors: Part[AnchorGrid],
        channels: int = 256,
        num_convs: int = 4,
        radius: float = 1.5,
        prior: float = 0.01,
        alpha: float = 0.25,
        gamma: float = 2.0,
        num_candidates: int = 1000,
    ) -> None:
        super().__init__()
        strides = [feature.stride for feature in features]
        self.anchors: AnchorGrid = complete(anchors, "model.dense_head.anchors", strides=strides)
        width = one_width(features, "model.dense_head")
        self.num_classes = num_classes
        self.class_tower = tower(width, channels, num_convs, "group", bias=True)
        self.box_tower = tower(width, channels, num_convs, "group", bias=True)
        last = channels if num_convs > 0 else width
        self.logit = nn.Conv2d(last, num_classes, 3, padding=1)
        self.distance = nn.Conv2d(last, 4, 3, padding=1)
        self.centre = nn.Conv2d(last, 1, 3, padding=1)
        normal_init(self, std=0.01)
        start_at(self.logit, prior)
        self.radius = radius
        self.alpha, self.gamma = alpha, gamma
        self.num_candidates = num_candidates

    def forward(self, features: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, K, 1, 4] xyxy on the canvas and scores float32 [B, K, C].

        A candidate has a score of one class, and 0 of the others.
        """
        boxes, scores = [], []
        anchors = self.anchors(features, batch.images.shape[-2:])
        for logits, distances, centre, level_anchors in zip(*self.raw_outputs(features), anchors, strict=True):
            certain = (logits.sigmoid() * centre.sigmoid()).sqrt()
            top, index, label = best_pairs(certain, self.num_candidates)
            picked = distances.gather(1, index[..., None].expand(-1, -1, 4))
            boxes.append(place(picked, level_anchors[index]))
            scores.append(top.new_zeros(*top.shape, self.num_classes).scatter(2, label[..., None], top[..., None]))
        return torch.cat(boxes, dim=1)[:, :, None], torch.cat(scores, dim=1)

    def loss(self, features: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute `class` (focal), `box` (GIoU) and `centre` losses.

        Each is summed and divided by the number of positive points in the batch.
        """
        assert batch.targets is not None
        level_logits, level_distances, level_centre = self.raw_outputs(features)
        logits, distances = torch.cat(level_logits, dim=1), torch.cat(level_distances, dim=1)
        centre = torch.cat(level_centre, dim=1)
        levels = self.anchors(features, batch.images.shape[-2:])
        anchors, ranges = torch.cat(levels), torch.cat(self.ranges(levels))  # [N, 4], [N, 2]
        points, reach = (anchors[:, :2] + anchors[:, 2:]) / 2, self.radius * (anchors[:, 2] - anchors[:, 0])
        objects = objects_of(batch.targets)
        matches = match_each(objects, partial(match_points, points, reach, ranges))  # [B, N]
        image, positive = torch.nonzero(matches >= 0, as_tuple=True)
        gt = matches[image, positive]
        boxes = objects.boxes[gt]
        wanted = torch.zeros_like(logits)
        wanted[image, positive, objects.labels[gt]] = 1
        counted = (matches != IGNORE)[..., None]
        found = place(distances[image, positive], anchors[positive])
        box = generalized_box_iou_loss(found, boxes, reduction="sum")
        central = F.binary_cross_entropy_with_logits(
            centre[image, positive, 0], centreness(ltrb_distances(points[positive], boxes)), reduction="sum"
        )
        focal = sigmoid_focal_loss(logits, wanted, alpha=self.alpha, gamma=self.gamma, reduction="none")
        count = max(len(positive), 1)
        return {"class": (focal * counted).sum() / count, "box": box / count, "centre": central / count}

    def ranges(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return, per level, the range of the distance to an object's farthest edge in pixels: [N, 2] of each point."""
        ranges = []
        for level, anchors in enumerate(levels):
            side = anchors[:, 2] - anchors[:, 0]
            low = torch.zeros_like(side) if level == 0 else 4 * side
            high = torch.full_like(side, torch.inf) if level == len(levels) - 1 else 8 * side
            ranges.append(torch.stack([low, high], dim=1))
        return ranges

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`."""
        return {"logit": labels_of_rows(num_classes)}

    def raw_outputs(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Compute, per level, float32 logits [B, N, C], distances [B, N, 4] >= 0 in sides, centre-ness [B, N, 1]."""
        hidden = [self.box_tower(x) for x in features]
        logits = [flatten_head(self.logit(self.class_tower(x)), self.num_classes).float() for x in features]
        distances = [flatten_head(self.distance(x), 4).float().relu() for x in hidden]
        return logits, distances, [flatten_head(self.centre(x), 1).float() for x in hidden]


def place(distances: Tensor, anchors: Tensor) -> Tensor:
    """Decode boxes [..., 4] xyxy: their edges are `distances` sides of the square anchors [..., 4] from the centres."""
    middle = (anchors[..., :2] + anchors[..., 2:]) / 2
    reach = distances * (anchors[..., 2:3] - anchors[..., :1])
    return torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], dim=-1)


def centreness(distances: Tensor) -> Tensor:
    """Compute centre-ness, 1 at an object's centre, 0 at its edges: [N], of distances [N, 4] (equation 3)."""
    across, along = distances[:, [0, 2]], distances[:, [1, 3]]
    return ((across.amin(dim=1) / across.amax(dim=1)) * (along.amin(dim=1) / along.amax(dim=1))).sqrt()
