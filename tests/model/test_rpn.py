"""The RPN's targets by rule, its losses against a loop, its proposals against torchvision's filter."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import box_iou, nms

from detkit.core.structures import Batch, FeatureSpec, Target
from detkit.model.dense import AnchorGrid
from detkit.model.proposer.rpn import RPN
from detkit.ops.coder import decode, encode


def rpn(**options: object) -> RPN:
    anchors = partial(AnchorGrid, sizes=[[32, 64]], ratios=[0.5, 1, 2])
    settings: dict = {"features": [FeatureSpec(8, 16)], "anchors": anchors, "channels": 8, "min_size": 0} | options
    return RPN(**settings)


def target(boxes: list[list[float]], difficult: list[bool] | None = None) -> Target:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.zeros(len(boxes), dtype=torch.int64),
        "difficult": torch.tensor(difficult or [False] * len(boxes), dtype=torch.bool),
    }


def batch(*targets: Target, size: tuple[int, int] = (128, 160)) -> Batch:
    sizes = [size] * len(targets)
    images = torch.zeros(len(targets), 3, *size, dtype=torch.uint8)
    return Batch(images, sizes, sizes, ["x"] * len(targets), list(targets))


def test_anchors_across_the_border_take_no_part_and_every_best_tie_is_positive() -> None:
    model = rpn()
    data = batch(target([[30, 30, 80, 70], [100, 60, 130, 90]]))
    anchors = torch.cat(model.anchors([torch.zeros(1, 8, 8, 10)], (128, 160)))
    assert data.targets is not None
    matches = model.assign(anchors, data.targets[0], (128, 160))
    iou = box_iou(data.targets[0]["boxes"], anchors)
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= 160) & (anchors[:, 3] <= 128)
    best = iou[:, inside].max(dim=1).values
    for index, anchor_iou in enumerate(iou.T):
        if not inside[index]:
            assert matches[index] == -2
        elif anchor_iou.max() >= 0.7 or (anchor_iou == best).any():
            assert matches[index] == anchor_iou.argmax()
        else:
            assert matches[index] == (-1 if anchor_iou.max() < 0.3 else -2)


def test_losses_equal_a_loop_when_all_anchors_are_sampled() -> None:
    torch.manual_seed(0)
    model = rpn(num_samples=10_000, positive_fraction=1.0, drop_border=False)
    features = [torch.randn(2, 8, 8, 10)]
    data = batch(target([[30, 30, 80, 70]]), target([]))
    assert data.targets is not None
    _, losses = model.loss(features, data)
    (logits,), (deltas,) = model.head(features)
    anchors = torch.cat(model.anchors(features, (128, 160)))
    objectness, box, count = 0.0, 0.0, 0
    for image in range(2):
        for index, match in enumerate(model.assign(anchors, data.targets[image], (128, 160)).tolist()):
            if match == -2:
                continue
            count += 1
            objectness += F.softplus(-logits[image, index] if match >= 0 else logits[image, index]).item()
            if match >= 0:
                wanted = encode(data.targets[image]["boxes"][match], anchors[index])
                for difference in (deltas[image, index] - wanted).abs().tolist():
                    box += 4.5 * difference**2 if difference < 1 / 9 else difference - 1 / 18  # sigma 3
    assert abs(losses["rpn_objectness"].item() - objectness / count) < 1e-4
    assert abs(losses["rpn_box"].item() - box / count) < 1e-4


def test_proposals_are_the_best_after_suppression() -> None:
    torch.manual_seed(0)
    model = rpn(pre_nms=(100, 50), post_nms=(20, 10)).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features = [torch.randn(1, 8, 8, 10)]
    (logits,), (deltas,) = model.head(features)
    anchors = model.anchors(features, (128, 160))[0]
    order = logits[0].argsort(descending=True)[:50]
    boxes = decode(deltas[0][order], anchors[order])
    boxes = torch.stack([boxes[:, 0::2].clamp(0, 160), boxes[:, 1::2].clamp(0, 128)], dim=2).flatten(1)
    expected = boxes[nms(boxes, logits[0][order], 0.7)[:10]]
    assert torch.allclose(model(features, batch(target([])))[0], expected, atol=1e-4)


def test_small_proposals_are_measured_in_pixels_of_the_file() -> None:
    model = rpn(min_size=20).eval()
    data = batch(target([]))
    data.original_sizes = [(64, 80)]  # shown at twice its size: 20 px of the file are 40 on the canvas
    proposals = model([torch.randn(1, 8, 8, 10)], data)[0]
    assert ((proposals[:, 2:] - proposals[:, :2]) >= 40).all()


@pytest.mark.parametrize("training", [True, False])
def test_small_proposals_leave_before_or_after_the_best_are_counted(training: bool) -> None:
    torch.manual_seed(0)
    first, last = (rpn(pre_nms=(40, 30), min_size=22, filter_first=first).train(training) for first in (True, False))
    for parameter in first.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    last.load_state_dict(first.state_dict())
    features, data = [torch.randn(2, 8, 8, 10)], batch(target([]), target([]))
    data.sizes = [(128, 160), (100, 120)]
    data.original_sizes = [(128, 160), (80, 96)]  # the second is shown larger: 22 px are 27.5
    (logits,), (deltas,) = first.head(features)
    anchors = first.anchors(features, (128, 160))[0]
    for image, (height, width) in enumerate(data.sizes):
        boxes = decode(deltas[image], anchors)
        boxes = torch.stack([boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], dim=2).flatten(1)
        large = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= (22, 27.5)[image]
        order = logits[image].argsort(descending=True)
        count = 40 if training else 30
        for model, chosen in ((first, order[large[order]][:count]), (last, order[:count][large[order[:count]]])):
            expected = boxes[chosen][nms(boxes[chosen], logits[image][chosen], 0.7)]
            assert torch.allclose(model.propose([logits], [deltas], [anchors], data)[image], expected, atol=1e-4)
        assert large[order[:count]].sum() < count  # the two are not the same


def test_an_rpn_of_a_checkpoint_from_before_counts_first() -> None:
    assert not rpn().filter_first


def test_an_image_without_objects_teaches_background_only() -> None:
    model = rpn()
    _, losses = model.loss([torch.randn(1, 8, 8, 10)], batch(target([])))
    assert losses["rpn_objectness"] > 0 and losses["rpn_box"] == 0
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in model.parameters())
