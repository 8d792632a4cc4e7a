from __future__ import annotations

import torch

from detkit.ops.assign.match import IGNORE, NEGATIVE
from detkit.ops.assign.yolo_assign import anchor_rows, assign_rows, object_rows, shape_iou

STRIDES = [8, 16]
ANCHORS = [torch.tensor([[10.0, 12.0], [20.0, 14.0]]), torch.tensor([[40.0, 30.0], [30.0, 60.0], [90.0, 80.0]])]
GRIDS = [(8, 12), (4, 6)]
LAYOUT = anchor_rows(GRIDS, STRIDES, ANCHORS)


def brute_rows(box: list[float], extra_iou: float | None = None) -> list[int]:
    """By loops: the rows that answer for a box."""
    x, y, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
    ious, rows, first = [], [], 0
    for (height, width), stride, anchors in zip(GRIDS, STRIDES, ANCHORS, strict=True):
        for place, (aw, ah) in enumerate(anchors.tolist()):
            common = min(w, aw) * min(h, ah)
            ious.append(common / (w * h + aw * ah - common))
            column, row = min(int(x // stride), width - 1), min(int(y // stride), height - 1)
            rows.append(first + (row * width + column) * len(anchors) + place)
        first += height * width * len(anchors)
    best = ious.index(max(ious))
    return [r for k, r in enumerate(rows) if k == best or (extra_iou is not None and ious[k] > extra_iou)]


def random_boxes(count: int) -> torch.Tensor:
    torch.manual_seed(1)
    corner = torch.rand(count, 2) * torch.tensor([80.0, 50.0])
    return torch.cat([corner, corner + 2 + torch.rand(count, 2) * torch.tensor([50.0, 40.0])], dim=1).clamp(max=96)


def test_rows_are_laid_out_level_row_column_anchor() -> None:
    assert len(LAYOUT.cells) == 8 * 12 * 2 + 4 * 6 * 3
    index = 8 * 12 * 2 + (2 * 6 + 5) * 3 + 1
    assert LAYOUT.cells[index].tolist() == [5, 2] and LAYOUT.anchors[index].tolist() == [30, 60]
    assert LAYOUT.strides[index].tolist() == [16, 16]


def test_shape_iou_is_that_of_centred_boxes() -> None:
    iou = shape_iou(torch.tensor([[10.0, 10.0], [20.0, 5.0]]), torch.tensor([[10.0, 10.0]]))
    assert torch.allclose(iou, torch.tensor([[1.0], [50 / 150]]))
    assert shape_iou(torch.zeros(0, 2), torch.ones(3, 2)).shape == (0, 3)


def test_object_rows_against_loops() -> None:
    boxes = random_boxes(60)
    for extra in (None, 0.5):
        objects, rows = object_rows(boxes, LAYOUT, extra)
        for index, box in enumerate(boxes.tolist()):
            assert rows[objects == index].tolist() == brute_rows(box, extra)


def test_a_centre_on_the_far_border_belongs_to_the_last_cell() -> None:
    _, rows = object_rows(torch.tensor([[94.0, 60.0, 98.0, 68.0]]), LAYOUT)
    assert LAYOUT.cells[rows].tolist() == [[11, 7]]


def test_the_last_object_has_the_row_and_overlaps_are_spared() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 12], [1.0, 0, 11, 12], [40.0, 20, 80, 50]])
    predicted = torch.zeros(len(LAYOUT.cells), 4)
    predicted[7] = torch.tensor([41.0, 20, 80, 50])  # overlaps the third object
    matches = assign_rows(predicted, boxes, torch.zeros(3, dtype=torch.bool), LAYOUT, ignore_iou=0.5)
    [first_row] = brute_rows(boxes[0].tolist())
    assert [first_row] == brute_rows(boxes[1].tolist())
    assert matches[first_row] == 1 and matches[brute_rows(boxes[2].tolist())] == 2
    assert matches[7] == IGNORE
    assert (matches >= 0).sum() == 2 and (matches == IGNORE).sum() == 1


def test_difficult_objects_are_nobodys_and_no_background() -> None:
    boxes = random_boxes(3)
    predicted = torch.zeros(len(LAYOUT.cells), 4)
    inner = boxes[1] + (boxes[1, 2:] - boxes[1, :2]).repeat(2) * torch.tensor([0.4, 0.4, -0.4, -0.4])
    predicted[3] = inner  # of little IoU with it, but inside
    matches = assign_rows(predicted, boxes, torch.tensor([False, True, False]), LAYOUT, ignore_iou=0.5)
    assert set(matches[matches >= 0].tolist()) == {0, 2}
    assert matches[3] == IGNORE and matches[brute_rows(boxes[1].tolist())[0]] == IGNORE


def test_no_objects_is_all_background() -> None:
    matches = assign_rows(
        torch.rand(len(LAYOUT.cells), 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool), LAYOUT, ignore_iou=0.5
    )
    assert (matches == NEGATIVE).all()
