"""Checkpoint files: written whole or not at all, read without running anything that is inside."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from detkit import __version__
from detkit.disk import FULL
from detkit.errors import UserError
from detkit.whole_file import whole_file

FORMAT = 1


def save_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain data to `path`; after a crash at any moment the file is the old one or the new one."""
    size = bytes_of(content)
    with _told_of_full_disk(Path(path), size), whole_file(path) as unfinished, open(unfinished, "wb") as file:
        writer = _Writer(file)
        try:
            torch.save({"format": FORMAT, "detkit_version": __version__, **content}, writer)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise (writer.error or error) from error
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(Path(path).parent)


def bytes_of(content: Any) -> int:
    """How many bytes the tensors in nested plain data take."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        return sum(map(bytes_of, content.values()))
    return sum(map(bytes_of, content)) if isinstance(content, (list, tuple)) else 0


class _Writer:
    """A file that remembers what went wrong with it: PyTorch says "unexpected pos" of a full disk."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def _told_of_full_disk(path: Path, size: int) -> Iterator[None]:
    """Raise UserError with what is needed where the block finds the disk full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(path.parent).free
        kept = "; the one before is still there" if path.exists() else ""
        raise UserError(
            f"no space left for {path}: a checkpoint takes {size / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free{kept}"
        ) from error


def copy_checkpoint(source: str | Path, path: str | Path) -> None:
    """Copy a checkpoint, as atomically as it was written."""
    size = Path(source).stat().st_size
    with _told_of_full_disk(Path(path), size), whole_file(path) as unfinished:
        shutil.copyfile(source, unfinished)
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
    _sync_folder(Path(path).parent)


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The content of a checkpoint file, or of checkpoints/best.pt where `path` is a run folder.

    A Darknet `.cfg`, with its `.weights` beside it, is a checkpoint too, and so are the state dict of a detector of
    torchvision and an `.onnx` that `detkit export` wrote, which can only predict.
    Raises UserError where there is no such file or it is not a checkpoint that this version reads.
    """
    path = find_checkpoint(path)
    if path.suffix == ".cfg":
        from detkit.bridge.darknet.checkpoint import read_darknet  # it builds a detector, which few readers need

        return read_darknet(path)
    if path.suffix == ".onnx":
        from detkit.bridge.export.session import read_onnx

        return read_onnx(path)
    if path.suffix == ".pt2":
        raise UserError(
            f"{path}: a program is read by torch.export.load, which may run code from it; detkit reads .pt and .onnx"
        )
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a detkit checkpoint: {reason}") from error
    if isinstance(content, dict) and "format" not in content:
        from detkit.bridge.torchvision.checkpoint import read_file

        content = read_file(content, path) or content
    if not isinstance(content, dict) or "format" not in content:
        raise UserError(f"{path} is not a detkit checkpoint: it has no 'format'")
    if content["format"] != FORMAT:
        made_by = f"detkit {content.get('detkit_version', '?')}"
        raise UserError(f"{path} was written by {made_by} in format {content['format']}; this version reads {FORMAT}")
    return content


def best_weights(run: str | Path) -> dict[str, Tensor]:
    """The weights of the best checkpoint of a run folder: their average where one was kept."""
    saved = load_checkpoint(run)
    return saved["ema"] or saved["model"]


def find_checkpoint(path: str | Path, name: str = "best.pt") -> Path:
    """`path` itself if it is a file; in a run folder, its checkpoints/`name`. Raises UserError."""
    path = Path(path).expanduser()
    if path.is_file():
        return path
    candidates = [path / "checkpoints" / name, path / name] if path.is_dir() else []
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    tried = ", ".join(str(candidate) for candidate in candidates)
    raise UserError(
        f"no checkpoint in {path} (tried {tried})" if candidates else f"no checkpoint {path} (in {Path.cwd()})"
    )


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
