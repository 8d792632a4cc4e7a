"""What a trained RPN hands on: more than its own detector looks at, its best first, and known by its settings."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from detkit.core.structures import Batch
from detkit.model.detector import Detector
from detkit.proposal import trained_rpn
from detkit.proposal.trained_rpn import TrainedRPN


@pytest.fixture
def detector(build: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch) -> Detector:
    """A detector whose test looks at 10 proposals of the best 40; in its training 300 of them enter suppression."""
    torch.manual_seed(0)
    made = build(
        "model=faster_rcnn_light", "model.backbone.name=resnet10t", "model.proposer.pre_nms=[300,40]",
        "model.proposer.post_nms=[300,10]", "model.proposer.nms_iou=0.95",
    ).eval()  # fmt: skip

    def propose(_: object) -> torch.Tensor:
        with torch.inference_mode():
            image = torch.zeros(1, 3, 128, 160, dtype=torch.uint8)
            return made.propose(Batch(image, [(128, 160)], [(128, 160)], ["x"]))[0]  # type: ignore[operator]

    monkeypatch.setattr(trained_rpn, "load", lambda _: SimpleNamespace(detector=made, propose=propose))
    return made


def test_more_than_the_detector_looks_at_are_handed_on(detector: Detector) -> None:
    own = TrainedRPN(checkpoint="x")(None)  # type: ignore[arg-type]
    few = TrainedRPN(checkpoint="x", max_boxes=5)(None)  # type: ignore[arg-type]
    many = TrainedRPN(checkpoint="x", max_boxes=200)(None)  # type: ignore[arg-type]
    assert len(own) == 10 and len(few) == 5 and len(many) == 200
    assert (few == own[:5]).all() and (many[:10] == own).all()


def test_proposals_of_other_numbers_are_not_taken_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(b"weights")
    monkeypatch.setattr(trained_rpn, "find_checkpoint", lambda _: path)
    known = [TrainedRPN(checkpoint="x", max_boxes=count).parameters() for count in (None, 300, 2000)]
    assert known[0].keys() == {"method", "checkpoint", "max_boxes"}  # as it was for files that were made before
    assert len({str(one) for one in known}) == 3 and "pre_nms" in known[1]


def test_the_option_hands_on_2000(compose_train: Callable) -> None:
    config = compose_train("model=fast_rcnn", "proposal=rpn", "proposal.checkpoint=x")
    assert config.proposal.max_boxes == 2000
