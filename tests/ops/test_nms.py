from __future__ import annotations

import pytest
import torch
from torchvision.ops import batched_nms

from detkit.ops import nms
from detkit.ops.nms import best_after_diou_nms, best_after_nms, rank_in_group


@pytest.mark.parametrize("count", [1, 20, 10_000])
@pytest.mark.parametrize("num_boxes", [0, 7, 300])
def test_survivors_are_those_of_the_whole(num_boxes: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nms, "CHUNK", 10)
    torch.manual_seed(0)
    corner = torch.rand(num_boxes, 2) * 60
    boxes = torch.cat([corner, corner + 20 + 20 * torch.rand(num_boxes, 2)], dim=1)
    scores = torch.rand(num_boxes).sort(descending=True).values
    labels = torch.randint(0, 3, (num_boxes,))
    expected = batched_nms(boxes, scores, labels, 0.4)[:count]
    assert torch.equal(best_after_nms(boxes, scores, labels, 0.4, count), expected)


def test_ranks_count_within_their_group() -> None:
    assert rank_in_group(torch.tensor([2, 0, 2, 2, 0])).tolist() == [0, 0, 1, 2, 1]
    assert rank_in_group(torch.zeros(0, dtype=torch.int64)).tolist() == []


def diou(a: list[float], b: list[float], beta: float) -> float:
    w, h = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    apart = sum(((a[k] + a[k + 2] - b[k] - b[k + 2]) / 2) ** 2 for k in (0, 1))
    across = sum((max(a[k + 2], b[k + 2]) - min(a[k], b[k])) ** 2 for k in (0, 1))
    return w * h / union - (apart / across) ** beta


@pytest.mark.parametrize(("beta", "count"), [(1.0, 1000), (0.6, None), (0.6, 7)])
def test_diou_nms_is_that_of_the_plain_loop(beta: float, count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nms, "CHUNK", 16)  # several looks
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(90, 2, generator=generator) * 40
    boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(90, 2, generator=generator)], dim=1)
    labels = torch.randint(2, (90,), generator=generator)
    expected: list[int] = []
    for i, box in enumerate(boxes.tolist()):
        rivals = [boxes[j].tolist() for j in expected if labels[j] == labels[i]]
        if all(diou(rival, box, beta) <= 0.3 for rival in rivals):
            expected.append(i)
    found = best_after_diou_nms(boxes, labels, 0.3, count, beta=beta).tolist()
    assert found == expected[:count] and len(expected) > 10


def test_diou_nms_keeps_what_lies_side_by_side_and_takes_no_boxes() -> None:
    """IoU 1/2 with centres 20 of a diagonal of sqrt(80^2 + 30^2) apart: DIoU .445, and .322 with beta .6."""
    boxes = torch.tensor([[0.0, 0, 60, 30], [20, 0, 80, 30]])
    labels, scores = torch.zeros(2, dtype=torch.int64), torch.tensor([0.9, 0.8])
    assert best_after_nms(boxes, scores, labels, 0.45, 9).tolist() == [0]
    assert best_after_diou_nms(boxes, labels, 0.45, 9).tolist() == [0, 1]
    assert best_after_diou_nms(boxes, labels, 0.44, 9).tolist() == [0]
    assert best_after_diou_nms(boxes, labels, 0.33, 9, beta=0.6).tolist() == [0, 1]
    assert best_after_diou_nms(boxes[:0], labels[:0], 0.5, 9).tolist() == []
    points = torch.zeros(2, 4)  # two boxes without an inside: no number may come of 0 / 0
    assert best_after_diou_nms(points, labels, 0.5, 9).tolist() == [0, 1]
