"""Two processes on one GPU (through gloo, as NCCL wants a GPU for each) normalise as one with the images of both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from detkit.core.distributed import World, sync_batch_norm

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
IMAGES = torch.arange(4 * 3 * 5 * 5, dtype=torch.float32).reshape(4, 3, 5, 5).square() / 1000


def normalise(rank: int, meeting: str, results: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    device = torch.device("cuda", 0)
    norm = sync_batch_norm(nn.BatchNorm2d(3), World(rank, 2, device)).to(device)
    own = IMAGES[2 * rank : 2 * rank + 2].to(device)
    torch.save((norm(own).detach().cpu(), norm.running_mean.cpu()), f"{results}{rank}.pt")
    dist.destroy_process_group()


def test_statistics_are_those_of_all_images(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(normalise, (str(tmp_path / "meeting"), str(tmp_path / "of")), nprocs=2)
    alone = nn.BatchNorm2d(3)
    expected = alone(IMAGES)
    parts, means = zip(*(torch.load(tmp_path / f"of{rank}.pt") for rank in (0, 1)), strict=True)
    torch.testing.assert_close(torch.cat(parts), expected.detach(), rtol=1e-4, atol=1e-4)
    for mean in means:
        torch.testing.assert_close(mean, alone.running_mean, rtol=1e-4, atol=1e-4)
