"""Abstract over one or several processes, so that the training loop reads the same."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detkit.core.errors import UserError

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class World:
    """The processes that train together, seen from one of them; every method works with one process too."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward averages gradients over all processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The block runs on the main process, then on the others: it may make files that they then find."""
        if self.size > 1 and not self.is_main:
            dist.barrier()
        try:
            yield
        finally:
            if self.size > 1 and self.is_main:
                dist.barrier()

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's buffers: batch statistics that each gathered from batches of its own."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def broadcast(self, value: T) -> T:
        """The main process's `value`, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every process's `value` in order of rank; on other processes than the main one, an empty list."""
        if self.size == 1:
            return [value]
        found: list[T] = [value] * self.size if self.is_main else []
        dist.gather_object(value, found or None)
        return found

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set on any process."""
        return bool(self.largest(int(flag)))

    def largest(self, number: int) -> int:
        """The largest `number` of all processes."""
        if self.size == 1:
            return number
        numbers = torch.tensor([number], device=self.device)
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return int(numbers.item())

    def meet(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of each value over the processes, which all have the same names."""
        if self.size == 1 or not values:
            return values
        total = torch.tensor(list(values.values()), dtype=torch.float32, device=self.device)
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))


def sync_batch_norm(model: M, world: World) -> M:
    """The model with batch norms that use the statistics of all processes' images; itself where there is one process.

    Frozen norms stay as they are; activations that are part of a norm stay with it. Raises UserError where the
    processes are not on GPUs: PyTorch has none for CPUs.
    """
    from timm.layers import convert_sync_batchnorm

    if world.size == 1:
        return model
    if world.device.type != "cuda":
        raise UserError(
            f"trainer.sync_batchnorm=true works on GPUs, and these {world.size} processes are on {world.device}: "
            "set it to false"
        )
    converted: M = convert_sync_batchnorm(model)
    return converted


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """The world of this process: alone, or those that `torchrun` started (nccl on CUDA, gloo on CPU)."""
    size, rank, local = (int(os.environ.get(key, default)) for key, default in _ENVIRONMENT)
    if size == 1:
        yield World(0, 1, choose_device(device))
        return
    chosen = choose_device(device, local)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    # No `finally`: where this process fails the others may be waiting for it; it ends, and torchrun ends them.
    yield World(rank, size, chosen)
    dist.barrier()
    gc.collect()  # a wrapped model is full of cycles, and while it lives so do the threads of the group
    dist.destroy_process_group()


_ENVIRONMENT = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device that `device=` means: auto takes a GPU where there is one. Raises UserError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:  # no text: device=[0,1]
        raise UserError(f"device={name}: write auto, cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={name}: detkit runs on cpu, cuda and cuda:1, not on {device.type}; auto takes a GPU")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device={name}, but torch sees no GPU here; use device=cpu or device=auto")
        device = torch.device("cuda", device.index if device.index is not None else local_rank)
        if device.index >= torch.cuda.device_count():
            raise UserError(f"device={device}, but torch sees {torch.cuda.device_count()} GPUs, from cuda:0 on")
    return device
