from __future__ import annotations

import pytest
import torch
from torchvision.ops import batched_nms

from detkit.ops import nms
from detkit.ops.nms import best_after_nms, rank_in_group


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
