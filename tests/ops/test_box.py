"""Box geometry against loops over scalars."""

from __future__ import annotations

import torch

from detkit.ops.box import box_iof, inside


def test_iof_is_intersection_over_own_area() -> None:
    boxes = torch.rand(20, 2).repeat(1, 2) * 50 + torch.tensor([0, 0, 1, 1]) * (1 + torch.rand(20, 4) * 50)
    regions = boxes[torch.randperm(20)[:7]] + 3
    got = box_iof(boxes, regions)
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for j, (a1, b1, a2, b2) in enumerate(regions.tolist()):
            overlap = max(0.0, min(x2, a2) - max(x1, a1)) * max(0.0, min(y2, b2) - max(y1, b1))
            assert abs(got[i, j].item() - overlap / ((x2 - x1) * (y2 - y1))) < 1e-5


def test_iof_of_empty_and_degenerate_boxes() -> None:
    region = torch.tensor([[0.0, 0, 10, 10]])
    assert box_iof(torch.zeros(0, 4), region).shape == (0, 1)
    assert box_iof(region, torch.zeros(0, 4)).shape == (1, 0)
    assert box_iof(torch.tensor([[5.0, 5, 5, 5]]), region).item() == 0


def test_inside_counts_the_border_as_inside() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 10], [-0.1, 0, 5, 5], [0, 0, 20.1, 5], [0, 0, 5, 10.1]])
    assert inside(boxes, (10, 20)).tolist() == [True, False, False, False]
