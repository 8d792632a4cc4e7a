"""What a disk that is full, read-only or not ours answers, in a sentence."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from detkit.errors import UserError

REASONS = {
    errno.ENOSPC: "no space is left on its device",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "its file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "it is a folder",
    errno.EEXIST: "there is a file of that name",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the device reports an error",
}
MEGABYTE = 2**20


def explain_os_error(error: OSError, folder: str | Path | None = None) -> UserError | None:
    """The error in words, with the path and what to do; None where it is not one of the disk.

    folder: what was being written, where the error names no path itself.
    """
    reason = REASONS.get(error.errno or 0)
    path = error.filename if isinstance(error.filename, (str, Path)) else folder
    if reason is None or path is None:
        return None
    room = f" ({free_megabytes(path):.0f} MB are free)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return UserError(f"cannot write {path}: {reason}{room}; choose another place with hydra.run.dir=DIR")


def free_megabytes(path: str | Path) -> float:
    """Free space, in MB of 2**20 bytes, where `path` is or would be."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / MEGABYTE


def check_space(folder: Path, megabytes: float) -> None:
    """Raise UserError where `folder` has clearly no room for `megabytes`."""
    free = free_megabytes(folder)
    if free < megabytes:
        raise UserError(
            f"{folder}: a checkpoint needs about {megabytes:.0f} MB, {free:.0f} MB are free; make room, or choose "
            "another place with hydra.run.dir=DIR"
        )
