from __future__ import annotations

import torch
from torch import nn

from detkit.train.ema import Ema


def test_follows_by_the_recurrence_it_states() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = Ema(model, decay=0.5)
    expected = model.weight.item()
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.fill_(float(step % 5))
        ema.update(step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * (step % 5)
    assert abs(ema.module.weight.item() - expected) < 1e-5
    assert not ema.module.weight.requires_grad and not ema.module.training


def test_statistics_are_averaged_counters_copied_frozen_weights_kept() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[1].requires_grad_(False)
    ema = Ema(model, decay=0.9)
    before = ema.module[1].weight.clone()
    model(torch.randn(8, 2) + 5)
    ema.update(1)
    assert ema.module[0].num_batches_tracked == 1
    assert torch.equal(ema.module[1].weight, before)
    between = ema.module[0].running_mean / model[0].running_mean
    assert torch.allclose(between, torch.full((2,), 1 - 2 / 11), atol=1e-4)  # from 0, keeping 2/11 in step 1
