"""The losses of YOLO v1, v2 and v3 by loops over cells, anchors and objects."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from detkit.core.structures import Batch, Target
from detkit.model.dense_head.yolo_v1 import YOLOv1Output
from detkit.model.dense_head.yolo_v2 import YOLOv2Output
from detkit.model.dense_head.yolo_v3 import YOLOv3Output

CANVAS = (64, 96)
NUM_CLASSES = 3
Box = list[float]


def make_batch(seed: int, counts: tuple[int, ...] = (3, 0, 5)) -> Batch:
    """Images of random objects, the last of each image that has several difficult."""
    torch.manual_seed(seed)
    targets: list[Target] = []
    for count in counts:
        corner = torch.rand(count, 2) * torch.tensor([70.0, 40.0])
        boxes = torch.cat([corner, corner + 4 + torch.rand(count, 2) * torch.tensor([40.0, 30.0])], dim=1)
        boxes = torch.minimum(boxes, torch.tensor([96.0, 64, 96, 64]))
        difficult = torch.arange(count) == max(2, count - 1)
        targets.append({"boxes": boxes, "labels": torch.randint(0, NUM_CLASSES, (count,)), "difficult": difficult})
    images = torch.zeros(len(counts), 3, *CANVAS, dtype=torch.uint8)
    return Batch(images, [CANVAS] * len(counts), [CANVAS] * len(counts), ["x"] * len(counts), targets)


def objects(target: Target) -> list[tuple[Box, int, bool]]:
    return list(zip(target["boxes"].tolist(), target["labels"].tolist(), target["difficult"].tolist(), strict=True))


def iou(a: Box, b: Box) -> float:
    common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def half_inside(a: Box, b: Box) -> bool:
    common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return common >= 0.5 * (a[2] - a[0]) * (a[3] - a[1])


def sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t))


def cross_entropy(t: float, wanted: float) -> float:
    return -wanted * math.log(sigmoid(t)) - (1 - wanted) * math.log(1 - sigmoid(t))


def anchored_rows(maps: list[Tensor], image: int, strides: list[int], anchors: list[Any]) -> list[dict[str, Any]]:
    """Every anchor of every cell of an image: its place and what the network says of it."""
    rows = []
    for level, (values, stride, shapes) in enumerate(zip(maps, strides, anchors, strict=True)):
        for y in range(values.shape[2]):
            for x in range(values.shape[3]):
                for a, (pw, ph) in enumerate(shapes):
                    t = values[image, a * (5 + NUM_CLASSES) : (a + 1) * (5 + NUM_CLASSES), y, x].tolist()
                    cx, cy = (sigmoid(t[0]) + x) * stride, (sigmoid(t[1]) + y) * stride
                    w, h = pw * math.exp(t[2]), ph * math.exp(t[3])
                    box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
                    rows.append({"t": t, "box": box, "place": (level, x, y, a), "anchor": (pw, ph), "stride": stride})
    return rows


def best_place(box: Box, strides: list[int], anchors: list[Any], maps: list[Tensor]) -> tuple[int, int, int, int]:
    """(level, column, row, anchor) of the anchor whose shape is most like that of a box."""
    w, h = box[2] - box[0], box[3] - box[1]
    best, place = -1.0, (0, 0, 0, 0)
    for level, shapes in enumerate(anchors):
        for a, (pw, ph) in enumerate(shapes):
            common = min(w, pw) * min(h, ph)
            overlap = common / (w * h + pw * ph - common)
            if overlap > best:
                x, y = (box[0] + box[2]) / 2 / strides[level], (box[1] + box[3]) / 2 / strides[level]
                best = overlap
                place = (level, min(int(x), maps[level].shape[3] - 1), min(int(y), maps[level].shape[2] - 1), a)
    return place


def owners(target: Target, strides: list[int], anchors: list[Any], maps: list[Tensor]) -> tuple[dict, set]:
    """Place -> (box, label) of ordinary objects, the last one counting; places of difficult ones."""
    mine, spared = {}, set()
    for box, label, difficult in objects(target):
        place = best_place(box, strides, anchors, maps)
        if difficult:
            spared.add(place)
        else:
            mine[place] = (box, label)
    return mine, spared


def spared_row(row: dict[str, Any], target: Target, spared: set, ignore_iou: float) -> bool:
    return row["place"] in spared or any(
        iou(row["box"], box) > ignore_iou or (difficult and half_inside(row["box"], box))
        for box, _, difficult in objects(target)
    )


def wanted_offsets(row: dict[str, Any], box: Box) -> tuple[list[float], float]:
    """(x, y in the cell, tw, th) that give a box, and 2 - w * h."""
    _, x, y, _ = row["place"]
    w, h = box[2] - box[0], box[3] - box[1]
    share_x = (box[0] + box[2]) / 2 / row["stride"] - x
    share_y = (box[1] + box[3]) / 2 / row["stride"] - y
    offsets = [share_x, share_y, math.log(w / row["anchor"][0]), math.log(h / row["anchor"][1])]
    return offsets, 2 - w * h / (CANVAS[0] * CANVAS[1])


@pytest.mark.parametrize("seed", range(3))
def test_v3_against_loops(seed: int) -> None:
    batch = make_batch(seed)
    strides, anchors = [8, 16], [[[8, 10], [14, 9]], [[25, 20], [30, 45]]]
    maps = [torch.randn(3, 2 * (5 + NUM_CLASSES), 8, 12), torch.randn(3, 2 * (5 + NUM_CLASSES), 4, 6)]
    expected = {"box": 0.0, "objectness": 0.0, "class": 0.0}
    for image, target in enumerate(batch.targets or []):
        mine, spared = owners(target, strides, anchors, maps)
        for row in anchored_rows(maps, image, strides, anchors):
            t = row["t"]
            if row["place"] in mine:
                box, label = mine[row["place"]]
                offsets, weight = wanted_offsets(row, box)
                centre = sum(cross_entropy(t[i], offsets[i]) for i in (0, 1))
                size = sum((t[i] - offsets[i]) ** 2 / 2 for i in (2, 3))
                expected["box"] += weight * (centre + size)
                expected["objectness"] += cross_entropy(t[4], 1)
                expected["class"] += sum(cross_entropy(t[5 + c], float(c == label)) for c in range(NUM_CLASSES))
            elif not spared_row(row, target, spared, 0.5):
                expected["objectness"] += cross_entropy(t[4], 0)
    output = YOLOv3Output(strides=strides, anchors=anchors, num_classes=NUM_CLASSES)
    losses = output.loss(maps, batch)
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(
        {name: value / 3 for name, value in expected.items()}, rel=1e-3
    )


@pytest.mark.parametrize("seed", range(3))
def test_v2_against_loops(seed: int) -> None:
    batch = make_batch(seed)
    anchors = [[10.0, 12.0], [30.0, 20.0], [25.0, 50.0]]
    grid = torch.randn(3, 3 * (5 + NUM_CLASSES), 4, 6)
    output = YOLOv2Output(stride=16, anchors=anchors, num_classes=NUM_CLASSES, settle_images=5)
    for settled in (False, True):  # three images are seen in the first call, the sixth in the second
        expected = {"box": 0.0, "objectness": 0.0, "class": 0.0}
        for image, target in enumerate(batch.targets or []):
            mine, spared = owners(target, [16], [anchors], [grid])
            for row in anchored_rows([grid], image, [16], [anchors]):
                t = row["t"]
                moved = [sigmoid(t[0]), sigmoid(t[1]), t[2], t[3]]
                if row["place"] in mine:
                    box, label = mine[row["place"]]
                    offsets, weight = wanted_offsets(row, box)
                    expected["box"] += weight * sum((m - o) ** 2 / 2 for m, o in zip(moved, offsets, strict=True))
                    expected["objectness"] += 5 * (iou(row["box"], box) - sigmoid(t[4])) ** 2 / 2
                    total = sum(math.exp(value) for value in t[5:])
                    expected["class"] -= math.log(math.exp(t[5 + label]) / total)
                    continue
                if not settled:
                    at_rest = [0.5, 0.5, 0, 0]
                    expected["box"] += 0.01 * sum((m - r) ** 2 / 2 for m, r in zip(moved, at_rest, strict=True))
                if not spared_row(row, target, spared, 0.6):
                    expected["objectness"] += sigmoid(t[4]) ** 2 / 2
        if settled:
            output.seen.fill_(5)
        losses = output.loss(grid, batch)
        assert {name: float(value) for name, value in losses.items()} == pytest.approx(
            {name: value / 3 for name, value in expected.items()}, rel=1e-3
        )


def test_v2_counts_the_images_it_has_seen() -> None:
    output = YOLOv2Output(stride=16, anchors=[[10, 12]], num_classes=NUM_CLASSES)
    output.loss(torch.zeros(3, 5 + NUM_CLASSES, 4, 6), make_batch(0))
    output.eval().loss(torch.zeros(3, 5 + NUM_CLASSES, 4, 6), make_batch(0))
    assert int(output.state_dict()["seen"]) == 3


@pytest.mark.parametrize("seed", range(4))
def test_v1_against_loops(seed: int) -> None:
    """Equation 3, cell by cell; S = 4 so that objects share cells, and boxes far off so that some IoUs are 0."""
    grid, num_boxes = 4, 2
    batch = make_batch(seed, (3, 0, 6))
    values = torch.randn(3, grid * grid, NUM_CLASSES + 5 * num_boxes) * (0.3 if seed % 2 else 1.0)
    expected = {"box": 0.0, "confidence": 0.0, "class": 0.0}
    height, width = CANVAS
    no_overlap = 0
    for image, target in enumerate(batch.targets or []):
        for row in range(grid):
            for column in range(grid):
                cell = values[image, row * grid + column].tolist()
                here = [
                    (box, label, difficult)
                    for box, label, difficult in objects(target)
                    if (int((box[0] + box[2]) / 2 / width * grid), int((box[1] + box[3]) / 2 / height * grid))
                    == (column, row)
                ]
                ordinary = [(box, label) for box, label, difficult in here if not difficult]
                boxes = [cell[NUM_CLASSES + 5 * j : NUM_CLASSES + 5 * j + 5] for j in range(num_boxes)]
                if not ordinary:
                    if not here:
                        expected["confidence"] += 0.5 * sum(b[4] ** 2 for b in boxes)
                    continue
                box, label = ordinary[0]
                truth = [
                    (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height,
                    (box[2] - box[0]) / width, (box[3] - box[1]) / height,
                ]  # fmt: skip
                shares = [[(b[0] + column) / grid, (b[1] + row) / grid, b[2] ** 2, b[3] ** 2] for b in boxes]
                overlaps = []
                for x, y, w, h in shares:
                    said = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
                    overlaps.append(iou(said, box))
                if max(overlaps) > 0:
                    j = overlaps.index(max(overlaps))
                else:
                    no_overlap += 1
                    distances = [sum((s - t) ** 2 for s, t in zip(share, truth, strict=True)) for share in shares]
                    j = distances.index(min(distances))
                x, y, root_w, root_h, confidence = boxes[j]
                expected["box"] += 5 * (
                    (x + column - truth[0] * grid) ** 2 + (y + row - truth[1] * grid) ** 2
                    + (root_w - math.sqrt(truth[2])) ** 2 + (root_h - math.sqrt(truth[3])) ** 2
                )  # fmt: skip
                expected["confidence"] += (confidence - overlaps[j]) ** 2
                expected["confidence"] += 0.5 * sum(b[4] ** 2 for i, b in enumerate(boxes) if i != j)
                expected["class"] += sum((cell[c] - float(c == label)) ** 2 for c in range(NUM_CLASSES))
    losses = YOLOv1Output(grid=grid, num_boxes=num_boxes, num_classes=NUM_CLASSES).loss(values, batch)
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(
        {name: value / 3 for name, value in expected.items()}, rel=1e-3
    )
    assert no_overlap > 0 or seed % 2
