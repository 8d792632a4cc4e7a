"""Check the shared memory through which loader workers hand over batches, and fall back where there is too little."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, get_worker_info

from detkit.core.errors import UserError
from detkit.core.structures import Batch
from detkit.data.dataset import Sample

PLACE = Path("/dev/shm")
FIX = "give it more (docker run --shm-size=2g, --ipc=host) or set num_workers=0"
# What PyTorch says where it ends: as it is taken, and as a page of it is written to.
SIGNS = ("unable to allocate shared memory", "unable to open shared memory", "unable to mmap", "Bus error")


def free_bytes() -> int | None:
    """What is left of it; None where the system does not say."""
    if sys.platform != "linux":
        return None
    return shutil.disk_usage(PLACE).free if PLACE.is_dir() else 0


def workers_that_fit(num_workers: int, batch_bytes: int, free: int | None) -> tuple[int, int]:
    """(workers, batches that each reads ahead) whose batches fit into `free` bytes: as many as asked, two, if possible.

    Two more are in the hands of whoever takes them, who lets one go when the next is there.
    """
    for ahead in (2, 1):
        if free is None or (num_workers * ahead + 2) * batch_bytes <= free:
            return num_workers, ahead
    most = free // max(1, batch_bytes) - 2 if free is not None else 0
    return max(0, min(num_workers, most)), 1


def describe_shortage(asked: int, given: int, batch_bytes: int, free: int) -> str:
    """A line that says why there are fewer workers, or why they read less ahead."""
    what = (
        f"num_workers={given} in place of {asked}" if given != asked else "workers read one batch ahead in place of two"
    )
    return f"{PLACE} has {free / 1e6:.0f} MB free, and a batch takes {batch_bytes / 1e6:.0f}: {what}; {FIX}"


def share(images: torch.Tensor) -> torch.Tensor:
    """The tensor in shared memory, where a worker makes it: what fails here reaches the main process as an error.

    On its own PyTorch would do so in a thread of the worker, whose end nobody hears of.
    """
    return images.share_memory_() if get_worker_info() is not None else images


class BatchLoader(DataLoader[Sample]):
    """A loader that says in a line where the shared memory ends."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # of PyTorch's own iterator nothing else is used
        try:
            yield from super().__iter__()
        except RuntimeError as error:
            if not any(sign in str(error) for sign in SIGNS):
                raise
            free = free_bytes()
            left = "" if free is None else f" ({free / 1e6:.0f} MB free)"
            raise UserError(f"{PLACE} is full{left}: loader workers hand batches over in it; {FIX}") from error
