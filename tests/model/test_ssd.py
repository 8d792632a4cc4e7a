"""SSD: its default boxes, its network and its loss, each against an independent account."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torchvision.ops import complete_box_iou, distance_box_iou, generalized_box_iou

from detkit.core.errors import UserError
from detkit.core.structures import Batch, FeatureSpec, Target
from detkit.model.backbone.ssd_vgg import SSDVGG, L2Norm, thin_classifier
from detkit.model.dense import DefaultBoxes
from detkit.model.dense_head.ssd import SSDHead, plain_layer
from detkit.model.detector import Detector
from detkit.model.neck.ssd_extra import SSDExtra
from detkit.ops.anchor import grid_anchors
from detkit.ops.assign.match import match_default_boxes
from detkit.ops.assign.objects import objects_of

# of the authors' examples/ssd/ssd_pascal.py and ssd_pascal_512: (map, step, min size, max size, aspect ratios)
SSD300 = [
    (38, 8, 30, 60, [2]), (19, 16, 60, 111, [2, 3]), (10, 32, 111, 162, [2, 3]), (5, 64, 162, 213, [2, 3]),
    (3, 100, 213, 264, [2]), (1, 300, 264, 315, [2]),
]  # fmt: skip
SSD512 = [
    (64, 8, 35.84, 76.8, [2]), (32, 16, 76.8, 153.6, [2, 3]), (16, 32, 153.6, 230.4, [2, 3]),
    (8, 64, 230.4, 307.2, [2, 3]), (4, 128, 307.2, 384.0, [2, 3]), (2, 256, 384.0, 460.8, [2]),
    (1, 512, 460.8, 537.6, [2]),
]  # fmt: skip


def prior_boxes(levels: list[tuple[int, int, float, float, list[int]]]) -> Tensor:
    """Every default box by the loops of Caffe's PriorBox layer: float [N, 4] in pixels."""
    rows = []
    for cells, step, smallest, largest, ratios in levels:
        for row in range(cells):
            for column in range(cells):
                x, y = (column + 0.5) * step, (row + 0.5) * step
                shapes = [(smallest, smallest), (math.sqrt(smallest * largest),) * 2]
                for ratio in ratios:
                    for r in (ratio, 1 / ratio):
                        shapes.append((smallest * math.sqrt(r), smallest / math.sqrt(r)))
                rows += [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for w, h in shapes]
    return torch.tensor(rows)


@pytest.mark.parametrize(("model", "size", "levels", "count"), [
    ("ssd300", 300, SSD300, 8732), ("ssd512", 512, SSD512, 24564),
])  # fmt: skip
def test_default_boxes_are_those_of_the_authors(
    compose_train: Callable, model: str, size: int, levels: Any, count: int
) -> None:
    settings = compose_train(f"model={model}").model.dense_head.default_boxes
    grid = instantiate(settings)
    maps = [torch.zeros(1, 1, cells, cells) for cells, *_ in levels]
    boxes = grid(maps, (size, size))
    assert boxes.shape == (count, 4)
    assert torch.allclose(boxes, prior_boxes(levels), atol=2e-3)
    assert settings.side == size
    # to the last bit, as before there was a side: such checkpoints have the steps alone
    pixels = [
        grid_anchors(grid.base(level) * size, (cells, cells), (step, step))
        for level, (cells, step, *_) in enumerate(levels)
    ]
    before = DefaultBoxes(scales=settings.scales, ratios=settings.ratios, steps=settings.steps)
    assert torch.equal(boxes, torch.cat(pixels)) and torch.equal(before(maps, (size, size)), boxes)


@pytest.mark.parametrize("canvas", [(544, 544), (384, 544), (512, 300), (768, 768)])
@pytest.mark.parametrize("model", ["ssd300", "ssd512"])
def test_on_any_other_canvas_the_centres_lie_evenly_inside(
    build: Callable[..., Detector], model: str, canvas: tuple[int, int]
) -> None:
    detector = build(f"model={model}", num_classes=2)
    network = copy.deepcopy(detector).to("meta")
    maps = network.neck(network.backbone(torch.zeros(1, 3, *canvas, device="meta")))  # type: ignore[operator]
    boxes = detector.dense_head.default_boxes([torch.zeros(1, 1, *m.shape[2:]) for m in maps], canvas)  # type: ignore[operator, union-attr]
    first = 0
    for level, feature in enumerate(maps):
        rows, columns = feature.shape[2:]
        per_cell = len(detector.dense_head.default_boxes.base(level))  # type: ignore[operator, union-attr]
        part = boxes[first : first + rows * columns * per_cell]
        first += len(part)
        x, y = ((part[:, :2] + part[:, 2:]) / 2).unflatten(0, (rows, columns, per_cell)).unbind(dim=3)
        for centres, cells, side in ((x[0, :, 0], columns, canvas[1]), (y[:, 0, 0], rows, canvas[0])):
            assert torch.allclose(centres, (torch.arange(cells) + 0.5) * side / cells, atol=1e-3)
        assert ((x > 0) & (x < canvas[1]) & (y > 0) & (y < canvas[0])).all()
        sizes = (part[:, 2:] - part[:, :2]) / torch.tensor([canvas[1], canvas[0]])
        base = detector.dense_head.default_boxes.base(level)  # type: ignore[operator, union-attr]
        assert torch.allclose(sizes[:per_cell], base[:, 2:] - base[:, :2], atol=1e-4)
    assert first == len(boxes)


def test_steps_that_do_not_cover_their_own_canvas_are_refused() -> None:
    grid = DefaultBoxes(scales=[0.5, 0.9, 1.1], ratios=[[2], [2]], steps=[8, 48], side=48)
    maps = [torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 1, 1)]
    with pytest.raises(UserError, match=r"steps=\[8, 48\]: 3 cells 8 pixels apart do not cover the 48 pixels"):
        grid(maps, (48, 48))
    assert grid(maps, (40, 48)).shape == (40, 4)


def test_maps_have_the_sizes_of_the_paper(build: Callable[..., Detector]) -> None:
    for model, size, cells in (("ssd300", 300, [38, 19, 10, 5, 3, 1]), ("ssd512", 512, [64, 32, 16, 8, 4, 2, 1])):
        detector = build(f"model={model}", num_classes=2).to("meta")
        maps = detector.neck(detector.backbone(torch.zeros(1, 3, size, size, device="meta")))  # type: ignore[operator]
        assert [m.shape[-1] for m in maps] == cells
        assert [m.shape[1] for m in maps] == [f.channels for f in detector.neck.features]  # type: ignore[union-attr]


def test_default_boxes_share_the_canvas_evenly_and_can_be_kept_inside_it() -> None:
    grid = DefaultBoxes(scales=[0.5, 0.9, 1.1], ratios=[[2], [2]], limit=True)
    boxes = grid([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)], (100, 120))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert torch.allclose(centres[::4], torch.tensor([[20, 25], [60, 25], [100, 25], [20, 75], [60, 75], [100, 75],
                                                      [60, 50]]).float())  # fmt: skip
    size = boxes[:, 2:] - boxes[:, :2]
    assert torch.allclose(size[0], torch.tensor([60.0, 50.0]))
    assert (size <= torch.tensor([120.0, 100.0])).all() and (size == torch.tensor([120.0, 100.0])).any()
    with pytest.raises(UserError, match="2 levels of ratios need 3 scales"):
        DefaultBoxes(scales=[0.5, 0.9], ratios=[[2], [2]])


def test_l2_norm_is_one_vector_per_pixel() -> None:
    x = torch.randn(2, 5, 3, 4)
    y = L2Norm(5, 20)(x)
    for b, i, j in ((0, 0, 0), (1, 2, 3)):
        assert torch.allclose(y[b, :, i, j], 20 * x[b, :, i, j] / x[b, :, i, j].square().sum().sqrt(), atol=1e-5)


def test_thinned_layers_answer_like_the_classifier_where_only_kept_weights_count() -> None:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Linear(512 * 49, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16))
    fc6, fc7 = nn.Conv2d(512, 4, 3, padding=6, dilation=6), nn.Conv2d(4, 4, 1)
    thin_classifier(classifier, fc6, fc7)
    pooled = torch.zeros(1, 512, 7, 7)
    pooled[:, :, ::3, ::3] = torch.randn(1, 512, 3, 3)  # what the thinned fc6 reads, spread by its dilation
    spread = torch.zeros(1, 512, 13, 13)
    spread[:, :, ::6, ::6] = pooled[:, :, ::3, ::3]
    hidden = classifier[0](pooled.flatten(1))
    got = fc6(spread)[:, :, 6, 6]
    assert torch.allclose(got, hidden[:, ::4], atol=1e-4)
    kept = torch.zeros_like(hidden)
    kept[:, ::4] = hidden[:, ::4]
    assert torch.allclose(fc7(got[:, :, None, None])[:, :, 0, 0], classifier[3](kept)[:, ::4], atol=1e-4)


def test_other_strides_than_its_own_are_refused() -> None:
    with pytest.raises(UserError, match="maps at 8 and 16"):
        SSDVGG(strides=[16], pretrained=False)


def small_head(num_classes: int = 3, **settings: Any) -> tuple[SSDHead, list[Tensor], Tensor]:
    """A head over two small maps, its features for two images, and its default boxes."""
    torch.manual_seed(0)
    head = SSDHead(
        features=[FeatureSpec(4, 8), FeatureSpec(4, 16)],
        num_classes=num_classes,
        layer=plain_layer,
        default_boxes=DefaultBoxes(scales=[0.2, 0.5, 0.9], ratios=[[2], [2, 3]]),
        **settings,
    )
    features = [torch.randn(2, 4, 6, 6), torch.randn(2, 4, 3, 3)]
    return head, features, head.default_boxes(features, (48, 48))


def small_batch(*targets: Target) -> Batch:
    size = [(48, 48)] * len(targets)
    return Batch(torch.zeros(len(targets), 3, 48, 48, dtype=torch.uint8), size, size, ["a"] * len(size), list(targets))


def target(boxes: list[list[float]], labels: list[int], difficult: list[bool] | None = None) -> Target:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.tensor(difficult or [False] * len(labels), dtype=torch.bool),
    }


def iou_of(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def loss_by_loops(logits: Tensor, deltas: Tensor, anchors: Tensor, targets: list[Target]) -> tuple[float, float]:
    """Equations 1 to 3 of the paper, box by box."""
    class_loss = box_loss = matched = 0.0
    for row_logits, row_deltas, one in zip(logits.tolist(), deltas.tolist(), targets, strict=True):
        gts, labels = one["boxes"].tolist(), one["labels"].tolist()
        iou = [[iou_of(gt, anchor) for anchor in anchors.tolist()] for gt in gts]
        owner: dict[int, int] = {}
        for anchor in range(len(anchors)):
            for gt in range(len(gts)):
                if iou[gt][anchor] > 0.5 and iou[gt][anchor] >= max(row[anchor] for row in iou):
                    owner[anchor] = gt
        free_gt, free_anchor = set(range(len(gts))), set(range(len(anchors)))
        while free_gt:
            # boxes inside an object tie with each other: the first counts
            _, gt, anchor = max((round(iou[g][a], 5), -g, -a) for g in free_gt for a in free_anchor)
            gt, anchor = -gt, -anchor
            owner[anchor] = gt
            free_gt.remove(gt)
            free_anchor.remove(anchor)
        background = []
        for anchor, values in enumerate(row_logits):
            wanted = labels[owner[anchor]] + 1 if anchor in owner else 0
            cost = math.log(sum(math.exp(v) for v in values)) - values[wanted]
            if anchor not in owner:
                background.append(cost)
                continue
            class_loss += cost
            x1, y1, x2, y2 = anchors[anchor].tolist()
            a1, b1, a2, b2 = gts[owner[anchor]]
            offsets = [
                ((a1 + a2) / 2 - (x1 + x2) / 2) / (x2 - x1) / 0.1, ((b1 + b2) / 2 - (y1 + y2) / 2) / (y2 - y1) / 0.1,
                math.log((a2 - a1) / (x2 - x1)) / 0.2, math.log((b2 - b1) / (y2 - y1)) / 0.2,
            ]  # fmt: skip
            for got, offset in zip(row_deltas[anchor], offsets, strict=True):
                error = abs(got - offset)
                box_loss += 0.5 * error**2 if error < 1 else error - 0.5
        class_loss += sum(sorted(background, reverse=True)[: 3 * len(owner)])
        matched += len(owner)
    return class_loss / matched, box_loss / matched


def test_loss_equals_loops_over_boxes_and_objects() -> None:
    head, features, anchors = small_head()
    targets = [
        target([[2.1, 2, 12.3, 13], [20, 20.7, 44.2, 40], [21.4, 21, 43, 42.9]], [0, 2, 1]),
        target([[5.2, 30.9, 15, 40]], [1]),
    ]
    batch = small_batch(*targets)
    logits, deltas, _ = head.raw_outputs(features, batch)
    losses = head.loss(features, batch)
    expected = loss_by_loops(logits, deltas, anchors, targets)
    assert losses["class"].item() == pytest.approx(expected[0], rel=1e-5)
    assert losses["box"].item() == pytest.approx(expected[1], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "loss"), [("giou", generalized_box_iou), ("diou", distance_box_iou), ("ciou", complete_box_iou)]
)
def test_boxes_by_overlap(name: str, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    head, features, anchors = small_head(box_loss=name)
    batch = small_batch(target([[2.1, 2, 12.3, 13], [20, 20.7, 44.2, 40]], [0, 2]), target([], []))
    boxes, _ = head(features, batch)
    wanted = batch.targets[0]["boxes"]  # type: ignore[index]
    owner = match_default_boxes(anchors, objects_of(batch.targets), positive=0.5)[0]  # type: ignore[arg-type]
    rows = (owner >= 0).nonzero().flatten().tolist()
    found = sum(1 - loss(boxes[0, row], wanted[owner[row]][None]).item() for row in rows) / len(rows)
    assert head.loss(features, batch)["box"].item() == pytest.approx(found, rel=1e-4)


def test_negatives_are_mined_in_each_image_by_itself() -> None:
    head, features, _ = small_head()
    batch = small_batch(target([[5, 30, 15, 40]], [1]), target([], []))
    both = head.loss(features, batch)
    alone = head.loss([f[:1] for f in features], small_batch(*batch.targets[:1]))  # type: ignore[index]
    assert torch.allclose(both["class"], alone["class"])  # the image without objects adds nothing
    assert torch.allclose(both["box"], alone["box"])


def test_what_a_difficult_object_covers_is_no_hard_negative() -> None:
    head, features, _ = small_head()
    whole = [[0.0, 0, 48, 48]]
    found = target([[5, 30, 15, 40], *whole], [1, 0], [False, True])
    losses = head.loss([f[:1] for f in features], small_batch(found))
    nothing = head.loss([f[:1] for f in features], small_batch(target(whole, [0], [True])))
    assert nothing["class"] == nothing["box"] == 0
    assert losses["class"] < head.loss([f[:1] for f in features], small_batch(target([[5, 30, 15, 40]], [1])))["class"]


def test_scores_leave_background_out() -> None:
    head, features, anchors = small_head()
    boxes, scores = head(features, small_batch(target([], []), target([], [])))
    logits, *_ = head.raw_outputs(features, small_batch(target([], []), target([], [])))
    assert boxes[0].shape == (len(anchors), 1, 4) and scores[0].shape == (len(anchors), 3)
    assert torch.allclose(scores[1][7], logits[1, 7].exp()[1:] / logits[1, 7].exp().sum(), atol=1e-6)


def test_levels_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match=r"default_boxes has 1 levels, the features have 2 \(strides \[8, 16\]\)"):
        SSDHead(
            features=[FeatureSpec(4, 8), FeatureSpec(4, 16)], num_classes=1, layer=plain_layer,
            default_boxes=DefaultBoxes(scales=[0.2, 0.5], ratios=[[2]]),
        )  # fmt: skip


def test_extras_keep_what_they_are_given() -> None:
    neck = SSDExtra(
        features=[FeatureSpec(8, 16)],
        layers=[{"squeeze": 4, "channels": 6, "kernel": 3, "stride": 2, "padding": 1}],
    )
    x = torch.randn(1, 8, 5, 5)
    maps = neck([x])
    assert maps[0] is x and maps[1].shape == (1, 6, 3, 3)
    assert neck.features == [FeatureSpec(8, 16), FeatureSpec(6, 32)]
