"""Stream batches over epochs without end, from any position."""

from __future__ import annotations

import time
from collections.abc import Iterator

from torch.utils.data import DataLoader

from detkit.core.structures import Batch


class BatchStream:
    """Endless batches of a loader whose `batch_sampler` has `set_position`.

    `epoch` and `batch` say where the next batch to be taken lies, whatever the workers have read ahead.
    `waited` is how many seconds taking batches took. mixed: whether images are mixed with others.
    """

    def __init__(self, loader: DataLoader[object], epoch: int = 0, batch: int = 0, mixed: bool = False) -> None:
        self.loader = loader
        self.epoch = epoch
        self.batch = batch
        self.mixed = mixed
        self.waited = 0.0
        self._batches: Iterator[Batch] | None = None

    def take(self) -> Batch:
        """The next batch."""
        start = time.perf_counter()
        batch = self._next()
        self.batch += 1
        self.waited += time.perf_counter() - start
        return batch

    def stop_mixing(self) -> None:
        """From the next batch on every image comes alone; what was read ahead is thrown away."""
        self.mixed, self._batches = False, None

    def _next(self) -> Batch:
        while True:
            if self._batches is None:
                self.loader.batch_sampler.set_position(self.epoch, self.batch, self.mixed)  # type: ignore[union-attr]
                self._batches = iter(self.loader)
            try:
                return next(self._batches)
            except StopIteration:
                self._batches = None
                self.epoch, self.batch = self.epoch + 1, 0
