"""Checkpoint files: written whole or not at all, read without running anything that is inside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from detkit import __version__
from detkit.disk import FULL
from detkit.errors import UserError
from detkit.trust import names_of
from detkit.weight_file import read_weight_file, weights_in
from detkit.whole_file import whole_file

FORMAT = 1
# What every checkpoint has, of which kind, and where in it.
PARTS: tuple[tuple[tuple[str, ...], type, str], ...] = (
    (("model",), Mapping, "the weights"),
    (("config",), Mapping, "the settings of the training"),
    (("config", "model"), Mapping, "the config of the model"),
    (("classes",), list, "the class names"),
    (("preprocess",), Mapping, "how images become its input"),
)
# What else it may lack, and what then stands for it: averaged weights, its data, how far the training was.
NO_DATA = ("train_split", "val_split", "test_split", "classes")
START = {"epoch": 0, "batch": 0, "step": 0, "elapsed_s": 0.0}


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


def load_checkpoint(
    path: str | Path, map_location: str | torch.device = "cpu", *, trust: str | Sequence[str] | None = ()
) -> dict[str, Any]:
    """The content of a checkpoint file, or of checkpoints/best.pt where `path` is a run folder.

    A Darknet `.cfg`, with its `.weights` beside it, is a checkpoint too, and so are the state dict of a detector of
    torchvision, from its training script or of safetensors, and an `.onnx` that `detkit export` wrote, which can only
    predict. trust: modules of the user's own whose parts may be built (`detkit.trust`); kept as `trust` in the content.
    Raises UserError where there is no such file, or it is not a checkpoint that this version reads, or not a whole one.
    """
    path = find_checkpoint(path)
    return {**_read(path, map_location), "trust": names_of(trust)}  # the reader's word, never the file's


def _read(path: Path, map_location: str | torch.device) -> dict[str, Any]:
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
    if path.suffix == ".weights":
        raise UserError(f"{path} holds numbers alone: give the .cfg of the network, with this file beside it")
    content = read_weight_file(path, map_location)
    if not isinstance(content, dict) or "format" not in content:
        return _read_foreign(content, path)
    if content["format"] != FORMAT:
        made_by = f"detkit {content.get('detkit_version', '?')}"
        raise UserError(f"{path} was written by {made_by} in format {content['format']}; this version reads {FORMAT}")
    check_parts(content, path)
    config = {"data": dict.fromkeys(NO_DATA), **content["config"]}
    return {"ema": None, "position": START, **content, "config": config}


def check_parts(content: Mapping[str, Any], path: Path) -> None:
    """Raise UserError naming what a checkpoint of detkit's lacks, or has of another kind."""
    for keys, kind, meaning in PARTS:
        node: Any = content
        for key in keys:
            node = node.get(key)
        if not isinstance(node, kind):
            state = "is missing" if node is None else f"is a {type(node).__name__}"
            raise UserError(f"{path} is no whole checkpoint: {'.'.join(keys)}, {meaning}, {state}")


def _read_foreign(content: Any, path: Path) -> dict[str, Any]:
    from detkit.bridge.torchvision.checkpoint import read_file  # it composes configs, which few readers need

    weights = weights_in(content)
    if not weights:
        found = f"only {', '.join(map(str, list(content)[:8]))}" if isinstance(content, dict) else "no weights either"
        raise UserError(f"{path} is not a detkit checkpoint: it has no 'format', {found}")
    found_checkpoint = read_file(weights, path)
    if found_checkpoint is None:
        raise UserError(
            f"{path} is not a detkit checkpoint: it has no 'format', only {len(weights)} weights "
            f"({', '.join(list(weights)[:3])}, ...), and they are of no detector of torchvision that is known here"
            "\nweights of a backbone alone go where it is chosen: model.backbone.pretrained=FILE"
        )
    return found_checkpoint


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
