"""Sampling of regions by rule."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.ops import box_iou

from detkit.model.roi_head.fast_rcnn import FastRCNNHead
from detkit.ops.coder import decode
from detkit.types import Target


def head(**options: object) -> FastRCNNHead:
    return FastRCNNHead(roi_pool=nn.Identity(), tail=nn.Identity(), predictor=nn.Identity(), **options)  # type: ignore[arg-type]


def scene() -> tuple[torch.Tensor, Target]:
    torch.manual_seed(0)
    corner = torch.rand(300, 2) * 80
    proposals = torch.cat([corner, corner + 10 + torch.rand(300, 2) * 40], dim=1)
    boxes = torch.tensor([[10.0, 10, 40, 40], [50, 50, 90, 90], [0, 60, 30, 90]])
    return proposals, {
        "boxes": boxes,
        "labels": torch.tensor([1, 0, 2]),
        "difficult": torch.tensor([False, False, True]),
    }


def test_labels_and_offsets_follow_the_overlap() -> None:
    proposals, target = scene()
    boxes, labels, offsets = head(num_samples=64, bg_iou=(0.1, 0.5)).sample(proposals, target)
    iou = box_iou(boxes, target["boxes"][:2])
    fg = labels >= 0
    assert fg.sum() <= 16 and len(labels) <= 64 and fg.any()
    assert (iou[fg].max(dim=1).values >= 0.5).all()
    assert torch.equal(labels[fg], target["labels"][iou[fg].argmax(dim=1)])
    background = iou[~fg].max(dim=1).values
    assert ((background >= 0.1) & (background < 0.5)).all()
    owners = target["boxes"][iou[fg].argmax(dim=1)]
    assert torch.allclose(decode(offsets, boxes[fg], (0.1, 0.1, 0.2, 0.2)), owners, atol=1e-3)


def test_ground_truths_are_in_the_pool_but_not_difficult_ones() -> None:
    _, target = scene()
    boxes, labels, _ = head().sample(torch.zeros(0, 4), target)
    assert sorted(labels.tolist()) == [0, 1]
    assert not (boxes == target["boxes"][2]).all(dim=1).any()


def test_no_objects_and_no_proposals() -> None:
    proposals, _ = scene()
    empty: Target = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "difficult": torch.zeros(0, dtype=torch.bool),
    }
    boxes, labels, offsets = head().sample(proposals, empty)
    assert (labels == -1).all() and len(labels) == 128 and offsets.shape == (0, 4)
    boxes, labels, _ = head().sample(torch.zeros(0, 4), empty)
    assert boxes.shape == (0, 4) and labels.shape == (0,)
