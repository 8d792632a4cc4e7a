"""FCOS: its assignment and loss by loops over points, and what it gives out."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou

from detkit.core.structures import Batch, FeatureSpec, Target
from detkit.model.dense import AnchorGrid
from detkit.model.dense_head.fcos import FCOSHead, centreness
from detkit.ops.assign.match import IGNORE, NEGATIVE
from detkit.ops.point import match_points

CANVAS = (48, 64)


def small_head() -> tuple[FCOSHead, list[Tensor]]:
    """A head over two small maps and its features for two images."""
    torch.manual_seed(0)
    head = FCOSHead(
        features=[FeatureSpec(8, 8), FeatureSpec(8, 16)], num_classes=3,
        anchors=partial(AnchorGrid, sizes=[[4], [8]], ratios=[1.0]), channels=32, num_convs=1, prior=0.3,
    )  # fmt: skip
    for layer in (head.logit, head.distance, head.centre):
        torch.nn.init.normal_(layer.weight, std=0.2)
    torch.nn.init.constant_(head.distance.bias, 2)
    return head, [torch.randn(2, 8, 6, 8), torch.randn(2, 8, 3, 4)]


def make_batch(*targets: Target) -> Batch:
    images = torch.zeros(len(targets), 3, *CANVAS, dtype=torch.uint8)
    return Batch(images, [CANVAS] * len(targets), [CANVAS] * len(targets), ["a"] * len(targets), list(targets))


def target(boxes: list[list[float]], labels: list[int]) -> Target:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.zeros(len(labels), dtype=torch.bool),
    }


TARGETS = [
    target([[3, 4, 25.5, 28], [2, 3, 60, 46], [9, 9, 15, 16]], [0, 2, 1]), target([[30, 5, 52, 30.5]], [1])
]  # fmt: skip


def owner(point: list[float], level: int, one: Target) -> int:
    """The object of a point by the paper's three rules, one after the other; -1 for none."""
    side, best, found = (4, 8)[level], math.inf, -1
    for index, (x1, y1, x2, y2) in enumerate(one["boxes"].tolist()):
        edges = [point[0] - x1, point[1] - y1, x2 - point[0], y2 - point[1]]
        middle = max(abs(point[0] - (x1 + x2) / 2), abs(point[1] - (y1 + y2) / 2))
        own_level = max(edges) < 32 if level == 0 else max(edges) > 32
        area = (x2 - x1) * (y2 - y1)
        if min(edges) > 0 and middle < 1.5 * side and own_level and area < best:
            best, found = area, index
    return found


def test_loss_equals_loops_over_points() -> None:
    head, features = small_head()
    logits, distances, centre = (torch.cat(parts, dim=1) for parts in head.raw_outputs(features))
    class_loss = box_loss = centre_loss = 0.0
    positives = 0
    for image, one in enumerate(TARGETS):
        index = 0
        for level, (rows, columns, stride, side) in enumerate(((6, 8, 8, 4), (3, 4, 16, 8))):
            for row in range(rows):
                for column in range(columns):
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    gt = owner([x, y], level, one)
                    for c in range(3):
                        p = 1 / (1 + math.exp(-logits[image, index, c].item()))
                        if gt >= 0 and c == one["labels"][gt]:
                            class_loss -= 0.25 * (1 - p) ** 2 * math.log(p)
                        else:
                            class_loss -= 0.75 * p**2 * math.log(1 - p)
                    if gt >= 0:
                        positives += 1
                        left, top, right, bottom = (side * d for d in distances[image, index].tolist())
                        found = torch.tensor([[x - left, y - top, x + right, y + bottom]])
                        box_loss += 1 - generalized_box_iou(found, one["boxes"][gt : gt + 1]).item()
                        x1, y1, x2, y2 = one["boxes"][gt].tolist()
                        across, along = sorted((x - x1, x2 - x)), sorted((y - y1, y2 - y))
                        wanted = math.sqrt(across[0] / across[1] * along[0] / along[1])
                        p = 1 / (1 + math.exp(-centre[image, index, 0].item()))
                        centre_loss -= wanted * math.log(p) + (1 - wanted) * math.log(1 - p)
                    index += 1
    losses = head.loss(features, make_batch(*TARGETS))
    assert positives > 5
    assert losses["class"].item() == pytest.approx(class_loss / positives, rel=1e-4)
    assert losses["box"].item() == pytest.approx(box_loss / positives, rel=1e-4)
    assert losses["centre"].item() == pytest.approx(centre_loss / positives, rel=1e-4)


def test_difficult_objects_are_nobodys_and_no_background() -> None:
    points = torch.tensor([[10.0, 10], [30, 30], [50, 50]])
    boxes = torch.tensor([[0.0, 0, 20, 20], [20, 20, 40, 40]])
    ranges = torch.tensor([[0.0, 100]]).expand(3, 2)
    got = match_points(points, torch.full((3,), 9.0), ranges, boxes, torch.tensor([False, True]))
    assert got.tolist() == [0, IGNORE, NEGATIVE]
    assert match_points(points, torch.ones(3), ranges, boxes[:0], torch.zeros(0, dtype=torch.bool)).tolist() == [-1] * 3


def test_centreness_is_one_in_the_middle_and_nought_at_the_edge() -> None:
    found = centreness(torch.tensor([[5.0, 3, 5, 3], [0, 3, 10, 3], [1, 1, 4, 4]]))
    assert torch.allclose(found, torch.tensor([1.0, 0.0, 0.25]))


def test_scores_and_boxes() -> None:
    head, features = small_head()
    head.num_candidates = 10
    boxes, scores = head(features, make_batch(*TARGETS))
    assert boxes[0].shape == (20, 1, 4) and scores[0].shape == (20, 3)
    assert ((scores[0] > 0).sum(dim=1) == 1).all() and (boxes[0][:, 0, 2:] >= boxes[0][:, 0, :2]).all()
    logits, _, centre = (torch.cat(parts, dim=1) for parts in head.raw_outputs(features))
    best = (logits.sigmoid() * centre.sigmoid()).sqrt()[0].max()
    assert torch.allclose(scores[0].max(), best)
