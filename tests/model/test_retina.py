"""RetinaNet: its loss by loops over anchors and classes, its candidates, and its pyramid."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

from detkit.core.errors import UserError
from detkit.core.structures import Batch, FeatureSpec, Target
from detkit.model.dense import AnchorGrid
from detkit.model.dense_head.retina import RetinaHead
from detkit.model.neck.retina_fpn import RetinaFPN

CANVAS = (48, 64)


def small_head(**settings: Any) -> tuple[RetinaHead, list[Tensor]]:
    """A head over two small maps and its features for two images."""
    torch.manual_seed(0)
    head = RetinaHead(
        features=[FeatureSpec(8, 8), FeatureSpec(8, 16)],
        num_classes=3,
        anchors=partial(AnchorGrid, sizes=[[10, 14], [20, 28]]),
        channels=32,
        num_convs=1,
        prior=0.3,
        **settings,
    )
    torch.nn.init.normal_(head.logit.weight, std=0.2)
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
    target([[3.2, 4, 13.1, 15], [26.1, 14, 54.3, 41.2], [40, 2.3, 54, 15.9]], [0, 2, 1]),
    target([[30.1, 5, 56, 30.5], [8.2, 20.1, 20, 33]], [1, 0]),
]


@pytest.mark.parametrize("box_loss", ["l1", "giou"])
def test_loss_equals_loops_over_anchors_and_classes(box_loss: str) -> None:
    head, features = small_head(box_loss=box_loss, gamma=1.5, alpha=0.3)
    logits, deltas = (torch.cat(parts, dim=1) for parts in head.raw_outputs(features))
    anchors = torch.cat(head.anchors(features, CANVAS))
    class_loss, box_loss_sum, positives = 0.0, 0.0, 0
    for image, one in enumerate(TARGETS):
        iou = box_iou(one["boxes"], anchors)
        for anchor in range(len(anchors)):
            gt = int(iou[:, anchor].argmax())
            best = any(iou[g, anchor] == iou[g].max() for g in range(len(iou)))
            if 0.4 <= iou[gt, anchor] < 0.5 and not best:
                continue
            positive = iou[gt, anchor] >= 0.5 or best
            for c in range(3):
                p = 1 / (1 + math.exp(-logits[image, anchor, c].item()))
                if positive and c == one["labels"][gt]:
                    class_loss -= 0.3 * (1 - p) ** 1.5 * math.log(p)
                else:
                    class_loss -= 0.7 * p**1.5 * math.log(1 - p)
            if not positive:
                continue
            positives += 1
            x1, y1, x2, y2 = anchors[anchor].tolist()
            a1, b1, a2, b2 = one["boxes"][gt].tolist()
            w, h = x2 - x1, y2 - y1
            dx, dy, dw, dh = deltas[image, anchor].tolist()
            if box_loss == "l1":
                wanted = [((a1 + a2) - (x1 + x2)) / 2 / w, ((b1 + b2) - (y1 + y2)) / 2 / h]
                wanted += [math.log((a2 - a1) / w), math.log((b2 - b1) / h)]
                box_loss_sum += sum(abs(a - b) for a, b in zip((dx, dy, dw, dh), wanted, strict=True))
            else:
                cx, cy = (x1 + x2) / 2 + dx * w, (y1 + y2) / 2 + dy * h
                half_w, half_h = w * math.exp(dw) / 2, h * math.exp(dh) / 2
                found = torch.tensor([[cx - half_w, cy - half_h, cx + half_w, cy + half_h]])
                box_loss_sum += 1 - generalized_box_iou(found, one["boxes"][gt : gt + 1]).item()
    losses = head.loss(features, make_batch(*TARGETS))
    assert positives > 5
    assert losses["class"].item() == pytest.approx(class_loss / positives, rel=1e-4)
    assert losses["box"].item() == pytest.approx(box_loss_sum / positives, rel=1e-4)


def test_candidates_are_the_best_pairs_of_each_level() -> None:
    head, features = small_head(num_candidates=20)
    boxes, scores = head(features, make_batch(*TARGETS))
    logits, _ = head.raw_outputs(features)
    assert boxes[0].shape == (40, 1, 4) and scores[0].shape == (40, 3)
    for image in range(2):
        for level in range(2):
            rows = scores[image][20 * level : 20 * level + 20]
            assert ((rows > 0).sum(dim=1) == 1).all()
            expected = logits[level][image].sigmoid().flatten().sort(descending=True).values[:20]
            assert torch.allclose(rows.max(dim=1).values, expected)


def test_every_score_starts_at_the_prior() -> None:
    head = RetinaHead(
        features=[FeatureSpec(8, 8)], num_classes=2, anchors=partial(AnchorGrid, sizes=[[10]]), channels=8, prior=0.01
    )
    _, scores = head([torch.randn(1, 8, 4, 4)], make_batch(target([], [])))
    assert torch.allclose(scores[0][scores[0] > 0], torch.tensor(0.01), atol=1e-3)


def test_two_more_levels_than_the_backbone() -> None:
    features = [FeatureSpec(8, 8), FeatureSpec(16, 16), FeatureSpec(32, 32)]
    maps = [torch.randn(1, 8, 16, 20), torch.randn(1, 16, 8, 10), torch.randn(1, 32, 4, 5)]
    for from_backbone in (False, True):
        neck = RetinaFPN(features=features, channels=32, from_backbone=from_backbone)
        assert [f.stride for f in neck.features] == [8, 16, 32, 64, 128]
        assert [tuple(m.shape[-2:]) for m in neck(maps)] == [(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)]
        source = maps[2] if from_backbone else neck(maps)[2]
        assert torch.equal(neck(maps)[3], neck.pyramid.extra_blocks.p6(source))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UserError, match=r"anchors\.sizes has 1 levels, the features have 2"):
        RetinaHead(
            features=[FeatureSpec(8, 8), FeatureSpec(8, 16)],
            num_classes=3,
            anchors=partial(AnchorGrid, sizes=[[10, 14]]),
        )
    with pytest.raises(UserError, match="box_loss=l2: choose l1, giou, diou, ciou"):
        small_head(box_loss="l2")
