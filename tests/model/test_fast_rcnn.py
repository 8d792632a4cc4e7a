"""Sampling of regions by rule."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from detkit.core.structures import Target
from detkit.model.predictor import LinearPredictor
from detkit.model.roi_head.fast_rcnn import FastRCNNHead
from detkit.ops.coder import decode


def head(num_classes: int = 3, **options: object) -> FastRCNNHead:
    predictor = LinearPredictor(in_features=4, num_classes=num_classes)
    return FastRCNNHead(roi_pool=nn.Identity(), box_head=nn.Identity(), predictor=predictor, **options)  # type: ignore[arg-type]


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


def test_ground_truths_are_not_in_the_pool_where_it_is_for_proposals_alone() -> None:
    proposals, target = scene()
    boxes, _, _ = head(gt_proposals=False).sample(torch.zeros(0, 4), target)
    assert len(boxes) == 0
    boxes, labels, _ = head(gt_proposals=False).sample(proposals, target)
    assert (labels >= 0).any() and all((box == proposals).all(dim=1).any() for box in boxes)


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


def test_measured_offsets_have_unit_variance_and_fold_into_the_layer() -> None:
    proposals, target = scene()
    measuring = head(num_samples=None, box_std=None, fg_iou=0.3, bg_iou=(0.0, 0.3))
    measuring.fit_statistics([{**target, "proposals": proposals}])
    _, labels, offsets = measuring.sample(proposals, target)
    for label in (0, 1):
        of_class = offsets[labels[: len(offsets)] == label]
        assert of_class.mean(0).abs().max() < 1e-4 and (of_class.std(0, correction=0) - 1).abs().max() < 1e-4
    assert measuring.box_std[2].tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2])  # only a difficult one: none to measure

    measuring.roi_pool = Constant(torch.randn(len(proposals), 4))
    nn.init.normal_(measuring.predictor.delta.weight)
    nn.init.normal_(measuring.predictor.delta.bias)
    before, _ = measuring([], [proposals])
    saved = measuring.state_dict()
    measuring.fuse_for_inference()
    after, _ = measuring([], [proposals])
    assert torch.allclose(before[0], after[0], rtol=1e-4, atol=1e-2)
    assert saved["box_std"].shape == (3, 4) and "box_std" not in head().state_dict()


class Constant(nn.Module):
    """Gives the same features of whatever regions."""

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, *ignored: object) -> torch.Tensor:
        return self.features
