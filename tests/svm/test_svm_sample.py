"""What R-CNN's SVMs and box regressors learn from, against loops."""

from __future__ import annotations

import torch
from torchvision.ops import box_iou

from detkit.ops.coder import decode
from detkit.svm.svm_sample import box_examples, svm_negatives


def regions(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 60
    return torch.cat([corner, corner + 5 + torch.rand(count, 2) * 40], dim=1)


def iou(a: list[float], b: list[float]) -> float:
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    area = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return width * height / (area - width * height)


def test_negatives_are_far_from_every_object_and_outside_difficult_ones() -> None:
    torch.manual_seed(0)
    boxes, gt_boxes = regions(300), torch.tensor([[5.0, 5, 40, 40], [30, 30, 90, 90], [0, 50, 30, 100]])
    difficult = torch.tensor([False, True, False])
    got = svm_negatives(boxes, gt_boxes, difficult, below=0.3)
    for box, answer in zip(boxes.tolist(), got.tolist(), strict=True):
        far = all(iou(box, gt) < 0.3 for gt in gt_boxes.tolist())
        x1, y1, x2, y2 = gt_boxes[1].tolist()
        inside = max(0, min(box[2], x2) - max(box[0], x1)) * max(0, min(box[3], y2) - max(box[1], y1))
        assert answer == (far and inside / ((box[2] - box[0]) * (box[3] - box[1])) < 0.5)
    assert 0 < got.sum() < 300
    none = svm_negatives(boxes, gt_boxes[:0], difficult[:0], below=0.3)
    assert none.all() and svm_negatives(boxes[:0], gt_boxes, difficult, below=0.3).shape == (0,)


def test_box_examples_lead_to_the_nearest_object() -> None:
    torch.manual_seed(0)
    gt_boxes = regions(4)
    boxes = torch.cat([gt_boxes.repeat(20, 1) + 8 * torch.rand(80, 4) - 4, regions(100)])
    near, offsets = box_examples(boxes, gt_boxes, from_iou=0.6)
    overlaps = box_iou(boxes, gt_boxes)
    assert near.tolist() == [i for i in range(180) if overlaps[i].max() >= 0.6] and len(near) > 10
    assert torch.allclose(decode(offsets, boxes[near]), gt_boxes[overlaps[near].argmax(dim=1)], atol=1e-3)
    for few in (box_examples(boxes, gt_boxes[:0], from_iou=0.6), box_examples(boxes[:0], gt_boxes, from_iou=0.6)):
        assert few[0].shape == (0,) and few[1].shape == (0, 4)
