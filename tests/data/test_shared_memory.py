from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detkit.data.shared_memory import describe_shortage, workers_that_fit

MB = 10**6


@pytest.mark.parametrize(
    ("workers", "free", "fitting"),
    [
        (2, None, (2, 2)),  # not known here
        (2, 60 * MB, (2, 2)),  # four in the queues, two in hand
        (2, 59 * MB, (2, 1)),
        (4, 59 * MB, (3, 1)),
        (4, 29 * MB, (0, 1)),
        (4, 0, (0, 1)),
    ],
)
def test_as_many_workers_as_their_batches_have_room(workers: int, free: int | None, fitting: tuple[int, int]) -> None:
    assert workers_that_fit(workers, 10 * MB, free) == fitting


def test_a_shortage_names_the_size_and_the_way_out() -> None:
    told = describe_shortage(4, 0, 19_660_800, 64 * MB)
    assert "/dev/shm has 64 MB free, and a batch takes 20: num_workers=0 in place of 4" in told
    assert "--shm-size" in told


SMALL = """
mount -t tmpfs -o size={size} tmpfs /dev/shm || exit 77
exec "$0" -c "$1"
"""
PROGRAM = """
import numpy as np, torch
from detkit.data import loader, shared_memory
from detkit.data.dataset import Sample
from detkit.data.loader import collate
from detkit.data.shared_memory import BatchLoader
from detkit.core.errors import UserError

class Large(torch.utils.data.Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, index):
        pixels = torch.zeros(3, 700, 700, dtype=torch.uint8)
        return Sample(pixels, {"image_id": str(index), "original_size": (700, 700)})

torch.set_num_threads(1)
try:
    for batch in BatchLoader(Large(), batch_size=4, num_workers=2, collate_fn=collate):
        pass
    print("all batches")
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a /dev/shm of its own")
@pytest.mark.parametrize(("size", "answer"), [("8m", "/dev/shm is full"), ("64m", "all batches")])
def test_workers_without_room_end_in_a_line_and_do_not_hang(size: str, answer: str) -> None:
    command = ["unshare", "-m", "sh", "-c", SMALL.format(size=size), sys.executable, PROGRAM]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mounts here")
    assert answer in done.stdout, done.stdout + done.stderr
