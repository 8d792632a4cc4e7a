"""Detkit's own checkpoint files: written whole or not at all, read without running anything that is inside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeGuard

import torch
from torch import Tensor

from detkit.checkpoint.content import OF_A_TRAINING, Checkpoint, Position, TrainingState
from detkit.config.aliases import renamed, renamed_config, renamed_weights
from detkit.core.atomic_file import atomic_file
from detkit.core.disk import FULL
from detkit.core.errors import UserError
from detkit.core.version import __version__
from detkit.core.weight_file import read_weight_file

Parts: TypeAlias = tuple[tuple[tuple[str, ...], type, str], ...]

FORMAT = 2  # what is written; the first differs in nothing but the names that `aliases` knows
FORMATS = (1, 2)  # what is read
# What every checkpoint has, of which kind, and where in it.
PARTS: Parts = (
    (("model",), Mapping, "the weights"),
    (("config",), Mapping, "the settings of the training"),
    (("config", "model"), Mapping, "the config of the model"),
    (("classes",), list, "the class names"),
    (("preprocess",), Mapping, "how images become its input"),
    (("position",), Mapping, "how far the training was"),
)
# What one of a training, which has an optimizer, has besides.
PARTS_OF_A_TRAINING: Parts = (
    (("optimizer",), Mapping, "the state of the optimizer"),
    (("scaler",), Mapping, "the scale of the gradients"),
    (("rng",), list, "the random states of the processes"),
    (("metrics",), Mapping, "the latest evaluation"),
    (("best",), Mapping, "the best evaluation"),
)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to `path`; after a crash at any moment the file is the old one or the new one.

    What its `trust` and `graph` say is not written: no file says whom its reader trusts.
    Raises UserError where the disk is full.
    """
    content = _plain(checkpoint)
    size = bytes_of(content)
    with _told_of_full_disk(Path(path), size), atomic_file(path) as unfinished, open(unfinished, "wb") as file:
        writer = _Writer(file)
        try:
            torch.save({"format": FORMAT, "detkit_version": __version__, **content}, writer)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise (writer.error or error) from error
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(Path(path).parent)


def _plain(checkpoint: Checkpoint) -> dict[str, Any]:
    """Tensors and plain data, in the layout of the file."""
    content: dict[str, Any] = {
        "model": checkpoint.model,
        "ema": checkpoint.ema,
        "config": checkpoint.config,
        "classes": checkpoint.classes,
        "category_ids": checkpoint.category_ids,
        "preprocess": checkpoint.preprocess,
        "position": asdict(checkpoint.position),
        "tested_as": checkpoint.tested_as,
        "unused": checkpoint.unused,
    }
    if checkpoint.training is not None:
        content |= {name: getattr(checkpoint.training, name) for name in OF_A_TRAINING}
    return content


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
    with _told_of_full_disk(Path(path), size), atomic_file(path) as unfinished:
        shutil.copyfile(source, unfinished)
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
    _sync_folder(Path(path).parent)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of detkit's; raises UserError for any other file."""
    content = read_weight_file(path)
    if not is_checkpoint(content):
        raise UserError(f"{path} is not a detkit checkpoint: it has no 'format'")
    return checkpoint_of(content, path)


def is_checkpoint(content: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether what `read_weight_file` gives is of a checkpoint of detkit's, in any format."""
    return isinstance(content, dict) and "format" in content


def checkpoint_of(content: Mapping[str, Any], path: Path) -> Checkpoint:
    """The checkpoint in what was read from `path`, in the names of today.

    Raises UserError for a format that this version does not read, and for what is not whole.
    """
    if content["format"] not in FORMATS:
        made_by = f"detkit {content.get('detkit_version', '?')}"
        read = " and ".join(map(str, FORMATS))
        raise UserError(f"{path} was written by {made_by} in format {content['format']}; this version reads {read}")
    content = {"position": {}, **content}  # there may be no training behind it
    check_parts(content, path)
    trains, known = "optimizer" in content, {entry.name for entry in fields(Position)}
    if trains:
        check_parts(content, path, PARTS_OF_A_TRAINING)
    return Checkpoint(
        model=renamed_weights(content["model"]),
        ema=renamed_weights(ema) if (ema := content.get("ema")) else None,
        config=renamed_config(content["config"]),
        classes=content["classes"],
        category_ids=content.get("category_ids"),
        preprocess=renamed(content["preprocess"]),
        position=Position(**{key: value for key, value in content["position"].items() if key in known}),
        training=TrainingState(**{name: content[name] for name in OF_A_TRAINING}) if trains else None,
        tested_as=content.get("tested_as"),
        unused=content.get("unused", ""),
    )


def check_parts(content: Mapping[str, Any], path: Path, parts: Parts = PARTS) -> None:
    """Raise UserError naming what a checkpoint of detkit's lacks, or has of another kind."""
    for keys, kind, meaning in parts:
        node: Any = content
        for key in keys:
            node = node.get(key)
        if not isinstance(node, kind):
            state = "is missing" if node is None else f"is a {type(node).__name__}"
            raise UserError(f"{path} is no whole checkpoint: {'.'.join(keys)}, {meaning}, {state}")


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
