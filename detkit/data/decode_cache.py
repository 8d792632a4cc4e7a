"""Cache decoded images as plain pixels, in memory or on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.core.atomic_file import atomic_file
from detkit.core.errors import UserError
from detkit.data.annotations import Annotations
from detkit.image.read import read_image


class DecodedImages:
    """`read_image` that decodes a picture once: its pixels stay in a file of `folder`, 3 bytes for each.

    A folder in /dev/shm is memory, any other is disk. All processes, epochs and runs that name it share what is in it,
    and nothing is ever deleted from it; a picture that has changed since is decoded anew.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __call__(self, path: str | Path, *, upright: bool = True, reduction: int = 1) -> NDArray[np.uint8]:
        """As `read_image`."""
        try:
            state = os.stat(path)
        except OSError:
            return read_image(path, upright=upright, reduction=reduction)  # which says what is wrong
        key = (str(Path(path).absolute()), state.st_size, state.st_mtime_ns, upright, reduction)
        kept = self.folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.npy"
        try:
            return np.load(kept, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # not there, or not what was written
            pixels = read_image(path, upright=upright, reduction=reduction)
        try:
            with atomic_file(kept) as unfinished, unfinished.open("wb") as file:
                np.save(file, pixels)
        except OSError as error:
            raise UserError(f"decode_cache={self.folder}: cannot keep pictures there: {error}") from error
        return pixels

    def need(self, splits: Iterable[Annotations]) -> str:
        """What all pictures of the splits will take, and what is free: a line for the log.

        Counted from the sizes that the annotations declare. Raises UserError where the folder cannot be made, or less
        is free than is missing in it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"decode_cache={self.folder}: cannot make this folder: {error}") from error
        bytes_needed = 3 * sum(int(split.sizes.astype(np.int64).prod(axis=1).sum()) for split in splits)
        there = sum(file.stat().st_size for file in self.folder.glob("*.npy"))
        free = shutil.disk_usage(self.folder).free
        if bytes_needed - there > free:
            raise UserError(
                f"decode_cache={self.folder}: the decoded pictures take {_gib(bytes_needed)}, and only {_gib(free)} "
                "are free; name another folder, or null to decode them each time"
            )
        return f"decoded pictures in {self.folder}: {_gib(bytes_needed)} when all are there, {_gib(free)} free"


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
