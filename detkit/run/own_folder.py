"""Lock the output folder of a command, and refuse one that holds something else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import IO

from detkit.config.hydra_folder import folder_key, named_by_time, remove_unused
from detkit.core.distributed import World
from detkit.core.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: what a folder holds is seen, who is at work in it is not
    fcntl = None  # type: ignore[assignment]

RUN, COMPARISON, EVALUATION, PREDICTIONS = "a run", "a comparison", "an evaluation", "predictions"
# What is in a folder, by the files that whoever comes after would overwrite; the first kind that fits.
MARKS = {
    RUN: ("config.yaml", "checkpoints", "metrics.jsonl"),
    COMPARISON: ("compare.json",),
    EVALUATION: ("metrics.json",),
    PREDICTIONS: ("predictions.json",),
}
LOCK = ".lock"


@contextmanager
def own_folder(folder: Path, kind: str, world: World | None = None, *, goes_on: bool = False) -> Iterator[Path]:
    """Take a folder for the block, as its only writer on this machine, and make it; gives the folder.

    kind: what is written: RUN, ... It replaces what is there of the same kind, but for a run. goes_on: whether a run
    that is there is gone on with. A folder that Hydra has named after the time and that is taken gives way to the next
    name, `<time>_2`; any other is refused by a UserError. The folder is removed again where nothing was written.
    A process that is killed leaves no lock behind. Of several processes (`world`) the main one takes it for all.
    """
    with _taken(folder, kind, goes_on) if world is None or world.is_main else nullcontext(folder) as own:
        own = own if world is None else world.broadcast(own)
        remove_unused(own)
        yield own


@contextmanager
def _taken(folder: Path, kind: str, goes_on: bool) -> Iterator[Path]:
    taken, lock = _take(folder, kind, goes_on)
    try:
        yield taken
    finally:
        _unlock(taken, lock)


def _take(folder: Path, kind: str, goes_on: bool) -> tuple[Path, IO[str]]:
    for number in count(1):
        taken = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        lock = _lock(taken)
        reason: str | None = "another process is at work there"
        if lock is not None:
            reason = _in_the_way(taken, kind, goes_on)
            if reason is None:
                return taken, lock
            _unlock(taken, lock)
        if not named_by_time(folder):
            raise UserError(f"{folder_key(folder)}={folder}: {reason}; choose another {folder_key(folder)}")
    raise AssertionError


def _in_the_way(folder: Path, kind: str, goes_on: bool) -> str | None:
    """Why `kind` cannot be written into the folder; None where it can."""
    for held, marks in MARKS.items():
        for mark in marks:
            if not (folder / mark).exists():
                continue
            if held == kind and (kind != RUN or goes_on):
                return None
            if kind == RUN == held:
                return "holds a run (resume=true goes on with it)"
            return f"holds {held}, and its {mark} would not stay as it is"
    return None


def _lock(folder: Path) -> IO[str] | None:
    """The lock of a folder, which is made; None where another process has it. It ends with the process."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = open(folder / LOCK, "a", encoding="utf-8")  # noqa: SIM115 (it is open for as long as the lock holds)
        except FileNotFoundError:  # who had the folder has just removed it
            continue
        if fcntl is None:
            return file
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            return None
        except OSError:  # a file system without locks
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(folder / LOCK)):
                return file
        file.close()  # its last owner has removed it since it was opened


def _unlock(folder: Path, lock: IO[str]) -> None:
    with suppress(OSError):
        (folder / LOCK).unlink()
    lock.close()
    with suppress(OSError):  # not empty
        folder.rmdir()
