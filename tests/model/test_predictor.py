"""The predictor's loss against a loop, and background kept inside."""

from __future__ import annotations

import pytest
import torch

from detkit.model.predictor import LinearPredictor


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_loss_equals_a_loop(class_agnostic: bool) -> None:
    torch.manual_seed(0)
    model = LinearPredictor(in_features=6, num_classes=3, class_agnostic=class_agnostic)
    logits, deltas = model(torch.randn(5, 6) * 30)
    labels, offsets = torch.tensor([2, -1, 0, -1, 2]), torch.randn(3, 4) * 2
    losses = model.losses(logits, deltas, labels, offsets)
    classification = sum(-logits[i].log_softmax(0)[label + 1] for i, label in enumerate(labels.tolist()))
    box, wanted = 0.0, iter(offsets)
    for row, label in zip(deltas, labels.tolist(), strict=True):
        if label >= 0:
            for d in (row[0 if class_agnostic else label] - next(wanted)).abs().tolist():
                box += 0.5 * d * d if d < 1 else d - 0.5
    assert losses["roi_class"].sum().item() == pytest.approx(classification.item(), abs=1e-5)
    assert losses["roi_box"].sum().item() == pytest.approx(box, abs=1e-5)


def test_scores_leave_background_out() -> None:
    model = LinearPredictor(in_features=6, num_classes=3)
    scores = model.scores(torch.tensor([[10.0, 0, 0, 0], [0, 0, 9, 0]]))
    assert scores.shape == (2, 3) and scores[0].max() < 0.01 and scores[1].argmax() == 1


def test_no_regions() -> None:
    model = LinearPredictor(in_features=6, num_classes=3)
    empty = torch.zeros(0, dtype=torch.int64)
    losses = model.losses(*model(torch.zeros(0, 6)), empty, torch.zeros(0, 4))
    assert all(loss.shape == (0,) for loss in losses.values())
