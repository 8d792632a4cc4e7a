from __future__ import annotations

import math

import torch

from detkit.ops.yolo_coder import (
    cell_grid,
    decode_anchored,
    decode_free,
    decode_root,
    encode_anchored,
    encode_root,
)

STRIDE = 16


def boxes_in_cells(count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes of many shapes, and the cells of 16 px that hold their centres."""
    torch.manual_seed(0)
    cells = torch.randint(0, 20, (count, 2)).float()
    centre = (cells + torch.rand(count, 2) * 0.98 + 0.01) * STRIDE
    size = torch.rand(count, 2) * 200 + 1
    return torch.cat([centre - size / 2, centre + size / 2], dim=1), cells


def test_cells_go_row_by_row() -> None:
    assert cell_grid((2, 3)).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    assert cell_grid((0, 3)).shape == (0, 2)


def test_a_known_box() -> None:
    raw = torch.tensor([0.0, math.log(3), 0.0, math.log(2)])  # sigmoid: 1/2 and 3/4
    box = decode_anchored(raw, torch.tensor([4.0, 2.0]), torch.tensor([20.0, 30.0]), 16.0)
    assert torch.allclose(box, torch.tensor([72.0 - 10, 44.0 - 30, 72.0 + 10, 44.0 + 30]))
    free = decode_free(torch.tensor([0.5, -0.25, 0.0, math.log(2)]), torch.tensor([4.0, 2.0]), 16.0)
    assert torch.allclose(free, torch.tensor([72.0 - 8, 28.0 - 16, 72.0 + 8, 28.0 + 16]))
    root = decode_root(
        torch.tensor([0.5, 0.25, 0.5, -0.1]), torch.tensor([1.0, 2.0]), torch.tensor([64.0, 32.0]), (224, 448)
    )
    assert torch.allclose(root, torch.tensor([96.0 - 56, 72.0 - 1.12, 96.0 + 56, 72.0 + 1.12]))


def test_decoding_what_was_encoded_gives_it_back() -> None:
    boxes, cells = boxes_in_cells()
    anchors = torch.rand(len(boxes), 2) * 100 + 5
    strides = torch.full((len(boxes), 1), float(STRIDE))
    again = decode_anchored(encode_anchored(boxes, cells, anchors, strides), cells, anchors, strides)
    assert torch.allclose(again, boxes, atol=1e-3)
    step, canvas = torch.tensor([16.0, 16.0]), (320, 320)
    assert torch.allclose(decode_root(encode_root(boxes, cells, step, canvas), cells, step, canvas), boxes, atol=1e-3)


def test_anything_a_network_says_is_finite() -> None:
    raw = torch.tensor([[1e4, -1e4, 1e4, -1e4]])
    cells, anchors = torch.zeros(1, 2), torch.ones(1, 2)
    assert decode_anchored(raw, cells, anchors, 32.0).isfinite().all()
    assert decode_free(raw, cells, 32.0).isfinite().all()
    border = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
    assert encode_anchored(border, torch.tensor([[0.0, 1.0]]), anchors, 16.0).isfinite().all()


def test_no_boxes() -> None:
    none, cells = torch.zeros(0, 4), torch.zeros(0, 2)
    assert decode_anchored(none, cells, torch.zeros(0, 2), 8.0).shape == (0, 4)
    assert encode_anchored(none, cells, torch.ones(0, 2), 8.0).shape == (0, 4)
    assert decode_free(none, cells, 8.0).shape == (0, 4)
