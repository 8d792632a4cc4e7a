from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from detkit.data.loader import ResumableBatchSampler
from detkit.train.batch_stream import BatchStream


class Keys(torch.utils.data.Dataset):
    def __getitem__(self, key: Any) -> Any:
        return key


def stream(epoch: int = 0, batch: int = 0, workers: int = 0, mixed: bool = False) -> BatchStream:
    sampler = ResumableBatchSampler(7, 2, seed=5, shuffle=True)
    return BatchStream(
        DataLoader(Keys(), batch_sampler=sampler, collate_fn=list, num_workers=workers, persistent_workers=workers > 0),
        epoch,
        batch,
        mixed,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_goes_on_from_where_it_was(workers: int) -> None:
    whole = stream(workers=workers)
    batches, positions = [], []
    for _ in range(11):
        positions.append((whole.epoch, whole.batch))
        batches.append(whole.take())
    assert positions[:6] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 1)]
    assert [batch[0][1] for batch in batches] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    for start in (1, 4, 6):
        rest = stream(*positions[start], workers=0)
        assert [rest.take() for _ in range(11 - start)] == batches[start:]


@pytest.mark.parametrize("workers", [0, 2])
def test_mixing_stops_at_the_very_next_batch(workers: int) -> None:
    whole, stopped = stream(), stream(workers=workers, mixed=True)
    batches = [whole.take() for _ in range(9)]
    before = [stopped.take() for _ in range(6)]
    stopped.stop_mixing()
    after = [stopped.take() for _ in range(3)]
    assert all(key.mixed for batch in before for key in batch)
    assert after == batches[6:]
    assert [[key.image for key in batch] for batch in before] == [[key.image for key in batch] for batch in batches[:6]]


def test_waiting_is_counted() -> None:
    one = stream()
    one.take()
    assert one.waited > 0
