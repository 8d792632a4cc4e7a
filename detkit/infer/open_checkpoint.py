"""Open checkpoints of every kind: detkit's own, Darknet's, torchvision's, exported ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.darknet.read_darknet import read_darknet
from detkit.checkpoint.store import checkpoint_of, find_checkpoint, is_checkpoint
from detkit.checkpoint.torchvision.read_torchvision import read_state
from detkit.checkpoint.trust import names_of
from detkit.core.errors import UserError
from detkit.core.weight_file import read_weight_file, weights_in
from detkit.export.onnx_runtime import read_onnx


def load_checkpoint(path: str | Path, *, trust: str | Sequence[str] | None = ()) -> Checkpoint:
    """Read a checkpoint file, or checkpoints/best.pt where `path` is a run folder.

    A Darknet `.cfg`, with its `.weights` beside it, is a checkpoint too, and so are the state dict of a detector of
    torchvision, from its training script or of safetensors, and an `.onnx` that `detkit export` wrote, which can only
    predict. trust: modules of the user's own whose parts may be built (`detkit.checkpoint.trust`), kept as the
    checkpoint's.
    Raises UserError where there is no such file, or it is not a checkpoint that this version reads, or not a whole one.
    """
    path = find_checkpoint(path)
    found = READERS.get(path.suffix, _read_weights)(path)
    return replace(found, trust=names_of(trust))  # the reader's word, never the file's


def _read_weights(path: Path) -> Checkpoint:
    """Of a file of PyTorch or safetensors, whatever its suffix."""
    content = read_weight_file(path)
    if is_checkpoint(content):
        return checkpoint_of(content, path)
    weights = weights_in(content)
    if not weights:
        found = f"only {', '.join(map(str, list(content)[:8]))}" if isinstance(content, dict) else "no weights either"
        raise UserError(f"{path} is not a detkit checkpoint: it has no 'format', {found}")
    checkpoint = read_state(weights, path)
    if checkpoint is None:
        raise UserError(
            f"{path} is not a detkit checkpoint: it has no 'format', only {len(weights)} weights "
            f"({', '.join(list(weights)[:3])}, ...), and they are of no detector of torchvision that is known here"
            "\nweights of a backbone alone go where it is chosen: model.backbone.pretrained=FILE"
        )
    return checkpoint


def _refuse_program(path: Path) -> Checkpoint:
    raise UserError(
        f"{path}: a program is read by torch.export.load, which may run code from it; detkit reads .pt and .onnx"
    )


def _refuse_numbers(path: Path) -> Checkpoint:
    raise UserError(f"{path} holds numbers alone: give the .cfg of the network, with this file beside it")


# By suffix; all others are files of weights.
READERS: Mapping[str, Callable[[Path], Checkpoint]] = {
    ".cfg": read_darknet,
    ".onnx": read_onnx,
    ".pt2": _refuse_program,
    ".weights": _refuse_numbers,
}
