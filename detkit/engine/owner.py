"""Whose a run folder is: one process writes it, and what another command left there is not written over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from detkit.engine.distributed import World
from detkit.errors import UserError

try:
    import fcntl
except ImportError:  # no such locks on this system: only what lies in the folder tells
    fcntl = None  # type: ignore[assignment]

LOCK = ".owner"
# what a training leaves, from its start on
OF_A_TRAINING = ("config.yaml", "metrics.jsonl", "checkpoints")
# what other verbs leave
RESULTS = ("metrics.json", "predictions.json", "report.html", "compare.json")


@contextmanager
def owned_folder(folder: Path, *, trains: bool, goes_on: bool = False) -> Iterator[Path]:
    """Own a run folder for the block, made if need be; gives its path.

    trains: the folder must hold no run and no results. Otherwise it must hold no training; results of an earlier
    command are written over. goes_on: it is the folder of the run that is gone on with.
    A folder that Hydra named by the clock is left for one with a number where it is taken: two commands that start in
    one second get two folders. Raises UserError where a folder that was asked for by name is taken. The owner is who
    holds the lock on a file in it, which the system releases whatever ends the process. A folder in which nothing was
    written is gone afterwards.
    """
    chosen, number = folder, 1
    while True:
        made = not chosen.exists()
        chosen.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(chosen)
        left = () if goes_on else OF_A_TRAINING + (RESULTS if trains else ())
        holds = [name for name in left if (chosen / name).exists()]
        if descriptor is not None and not holds:
            break
        if descriptor is not None:
            os.close(descriptor)
        if goes_on or not _named_by_clock(folder):
            raise UserError(_taken(chosen, holds, trains))
        number += 1
        chosen = folder.with_name(f"{folder.name}_{number}")
    try:
        yield chosen
    finally:
        os.close(descriptor)
        with suppress(OSError):
            if {path.name for path in chosen.iterdir()} <= {LOCK}:
                (chosen / LOCK).unlink(missing_ok=True)
                if made or _named_by_clock(folder):
                    chosen.rmdir()


@contextmanager
def owned_by_main(world: World, folder: Path, *, trains: bool, goes_on: bool = False) -> Iterator[Path]:
    """`owned_folder` for several processes: the main one owns it, all are given its path."""
    owned = owned_folder(folder, trains=trains, goes_on=goes_on) if world.is_main else nullcontext(folder)
    with owned as chosen:
        yield world.broadcast(chosen)


def _taken(folder: Path, holds: list[str], trains: bool) -> str:
    if not holds:
        return f"{folder} is being written by another process: wait for it, or choose another hydra.run.dir"
    if trains and set(holds) & set(OF_A_TRAINING):
        return f"{folder} holds a run ({', '.join(holds)}): resume={folder} to go on, or another hydra.run.dir"
    what = "a training" if set(holds) & set(OF_A_TRAINING) else "results"
    return f"{folder} holds {what} ({', '.join(holds)}), which would be written over: choose another hydra.run.dir"


def _named_by_clock(folder: Path) -> bool:
    """Whether nobody asked for just this folder: it has the name that the config makes of the time."""
    if not HydraConfig.initialized():
        return False
    hydra = HydraConfig.get()
    asked = [*hydra.overrides.hydra, *hydra.overrides.task]
    given = any(str(one).lstrip("+").startswith(("hydra.run.", "hydra.sweep.", "run_dir=", "resume=")) for one in asked)
    return not given and Path(hydra.runtime.output_dir).resolve() == folder.resolve()


def _lock(folder: Path) -> int | None:
    """An open file of the folder with the lock on it; None where another process has it."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    if fcntl is not None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # by process: workers do not inherit it
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # a file system without locks
            pass
    return descriptor
