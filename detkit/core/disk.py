"""Explain full and read-only disks, and check for free space before writing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from detkit.core.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT}
# Facts of the machine and never of the program; what else an OSError says may be a bug.
FACTS = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


def explain(error: OSError, run_dir: str = "") -> UserError | None:
    """The error in a line that names the path and what to do; None where it may be a bug.

    run_dir: where the command writes, which a full disk does not tell; "" where there is no command.
    """
    if error.errno not in FACTS:
        return None
    path = run_dir if error.filename is None else str(error.filename)
    reason = os.strerror(error.errno)
    if error.errno in FULL:
        return UserError(
            f"no space left on the disk of {path or 'what is written'} ({reason}{_free(path)}): free some, or choose "
            "another disk with hydra.run.dir=DIR"
        )
    if error.filename is None:
        return None
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        reason = "there is a file where a folder should be" if error.errno != errno.EISDIR else "it is a folder"
    return UserError(f"cannot write to {path}: {reason}; choose another folder with hydra.run.dir=DIR")


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError where the disk of `folder` has not `needed` bytes left."""
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise UserError(
            f"no space for {what}: they need about {needed / 1e6:.0f} MB, and the disk of {folder} has "
            f"{free / 1e6:.0f} MB left; free some, or choose another disk with hydra.run.dir=DIR"
        )


def _free(path: str) -> str:
    return f", {shutil.disk_usage(_existing(Path(path))).free / 1e6:.0f} MB are free" if path else ""


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())
