"""What is assigned to the images of a batch at once is what is assigned to each of them alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from detkit.core.structures import Target
from detkit.model.dense_head.yolo_v1 import assign_batch_cells
from detkit.ops.anchor import base_anchors, grid_anchors
from detkit.ops.assign.match import match_anchors, match_boxes, match_default_boxes
from detkit.ops.assign.objects import Objects, match_each, objects_of
from detkit.ops.assign.simota import assign_simota
from detkit.ops.assign.yolo_assign import anchor_rows, assign_batch_rows
from detkit.ops.point import match_points

SIDE, CLASSES = 64, 3
ANCHORS = torch.cat([grid_anchors(base_anchors([2.5 * s], [0.5, 1, 2]), (SIDE // s,) * 2, (s, s)) for s in (8, 16)])
SQUARES = torch.cat([grid_anchors(base_anchors([s], [1]), (SIDE // s,) * 2, (s, s)) for s in (8, 16)])
POINTS, STRIDES = (SQUARES[:, :2] + SQUARES[:, 2:]) / 2, SQUARES[:, 2] - SQUARES[:, 0]
LAYOUT = anchor_rows([(8, 8), (4, 4)], [8, 16], [torch.tensor([[10.0, 14], [20, 12]]), torch.tensor([[30.0, 40]])])


def targets_of(counts: list[int], difficult: float) -> list[Target]:
    targets: list[Target] = []
    for count in counts:
        corner = torch.rand(count, 2) * 48
        boxes = torch.cat([corner, corner + 5 + torch.rand(count, 2) * 30], dim=1).clamp(max=SIDE)
        labels = torch.randint(0, CLASSES, (count,))
        targets.append({"boxes": boxes, "labels": labels, "difficult": torch.rand(count) < difficult})
    return targets


def said(boxes: Tensor, num_images: int) -> Tensor:
    """What a network may say now: boxes near its own ones, [B, N, 4]."""
    one, other = (boxes + torch.randn(num_images, len(boxes), 4) * 2).split(2, dim=2)
    return torch.cat([torch.minimum(one, other), torch.maximum(one, other)], dim=2)


def ways(num_images: int) -> dict[str, Callable[[Objects, slice], Tensor]]:
    """By name: how the images of a slice of the batch are assigned their objects, int64 [B, N]."""
    predicted, scores = said(SQUARES, num_images), torch.rand(num_images, len(SQUARES), CLASSES) * 0.9 + 0.05
    rows = said(
        torch.cat([LAYOUT.cells * LAYOUT.strides, LAYOUT.cells * LAYOUT.strides + LAYOUT.anchors], 1), num_images
    )
    ranges = torch.tensor([[0.0, 32.0], [32.0, torch.inf]]).repeat_interleave(torch.tensor([64, 16]), dim=0)
    return {
        "default boxes": lambda objects, images: match_default_boxes(ANCHORS, objects, positive=0.5),
        "anchors": lambda objects, images: match_anchors(ANCHORS, objects, positive=0.5, negative=0.4, force_best=True),
        "points": lambda objects, images: match_each(objects, partial(match_points, POINTS, 1.5 * STRIDES, ranges)),
        "SimOTA": lambda objects, images: assign_simota(POINTS, STRIDES, predicted[images], scores[images], objects)[0],
        "rows": lambda objects, images: assign_batch_rows(rows[images], objects, LAYOUT, ignore_iou=0.5),
        "rows, more anchors": lambda objects, images: assign_batch_rows(
            rows[images], objects, LAYOUT, ignore_iou=0.5, extra_iou=0.4
        ),
        "cells": lambda objects, images: assign_batch_cells(objects, 4, (SIDE, SIDE)),
    }


@pytest.mark.parametrize("counts", [[3, 0, 9, 1], [0, 0], [0, 5], [12, 0]])
@pytest.mark.parametrize("difficult", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("way", list(ways(1)))
def test_a_batch_is_its_images(way: str, counts: list[int], difficult: float) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        assign, targets = ways(len(counts))[way], targets_of(counts, difficult)
        together = assign(objects_of(targets), slice(None))
        first = 0
        for image, target in enumerate(targets):
            (alone,) = assign(objects_of([target]), slice(image, image + 1))
            assert torch.equal(together[image], torch.where(alone >= 0, alone + first, alone))
            first += counts[image]
        assert (together >= 0).any() == (difficult < 1 and first > 0) or difficult == 0.3


def test_anchors_are_matched_as_those_of_one_image() -> None:
    torch.manual_seed(0)
    (target,) = targets_of([8], 0.3)
    (found,) = match_anchors(ANCHORS, objects_of([target]), positive=0.5, negative=0.4, force_best=True)
    expected = match_boxes(ANCHORS, target["boxes"], target["difficult"], positive=0.5, negative=0.4, force_best=True)
    assert torch.equal(found, expected) and len(found.unique()) > 3


def test_overlaps_of_a_batch_are_those_of_its_images() -> None:
    torch.manual_seed(0)
    targets, predicted = targets_of([4, 0, 7], 0.2), said(SQUARES, 3)
    scores = torch.rand(3, len(SQUARES), CLASSES) * 0.9 + 0.05
    _, together = assign_simota(POINTS, STRIDES, predicted, scores, objects_of(targets))
    for image, target in enumerate(targets):
        one = slice(image, image + 1)
        _, (alone,) = assign_simota(POINTS, STRIDES, predicted[one], scores[one], objects_of([target]))
        assert torch.equal(together[image], alone)
