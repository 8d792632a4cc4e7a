"""Inspect the output folder that Hydra makes for a job, and remove it where it stays empty."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from detkit.config.node import unresolved


def folder_of_command() -> str:
    """The folder that Hydra has made for this job; "" where there is no job."""
    return str(HydraConfig.get().runtime.output_dir) if HydraConfig.initialized() else ""


def sweep_folder() -> Path | None:
    """The folder of the multirun that this process is a job of; None in a single run."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir)


def is_hydras(folder: Path) -> bool:
    """Whether this is the folder that Hydra has made for this job."""
    return HydraConfig.initialized() and folder.resolve() == Path(HydraConfig.get().runtime.output_dir).resolve()


def named_by_time(folder: Path) -> bool:
    """Whether Hydra named this folder after the time, so that nobody has asked for just this one."""
    if not is_hydras(folder):
        return False
    hydra = HydraConfig.get()
    place = unresolved(hydra.sweep if hydra.mode == RunMode.MULTIRUN else hydra.run)
    return "${now:" in str(place["dir"])


def folder_key(folder: Path) -> str:
    """The key by which a folder is chosen."""
    if not is_hydras(folder):
        return "run_dir"
    return "hydra.sweep.dir" if HydraConfig.get().mode == RunMode.MULTIRUN else "hydra.run.dir"


def remove_unused(folder: Path) -> None:
    """Remove the empty folder that Hydra made for this process where what is written goes to another, `folder`."""
    if HydraConfig.initialized() and not is_hydras(folder):
        with suppress(OSError):  # not empty, or gone already
            Path(HydraConfig.get().runtime.output_dir).rmdir()


def remove_empty(*, refused: bool) -> None:
    """Remove Hydra's folder of a job that is over, where nothing is in it; one that was asked for only if `refused`.

    With a folder named after the time go those above it that Hydra made for it alone.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    timed = named_by_time(folder)
    if not (refused or timed) or folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        return  # where the user is, is the user's
    with suppress(OSError):  # not empty, or gone already
        if folder.is_dir():
            folder.rmdir()
        for above in folder.parents if timed else ():
            if above == Path.cwd() or Path.cwd() not in above.parents:
                break
            above.rmdir()
