"""Name a run after its model, or after the checkpoint that it fine-tunes."""

from __future__ import annotations

from pathlib import Path

from detkit.config.node import register_resolver

TUNED = "_tuned"


def run_name(model: str, finetune: str | None) -> str:
    """The default of `name` (configs/train.yaml): the option of model/, or `<name of the checkpoint's run>_tuned`.

    A checkpoint of another project has no name; then that of its file counts. One that cannot be read is for the
    training to refuse.
    """
    return str(model) if finetune is None else f"{_name_of(str(finetune))}{TUNED}"


def _name_of(source: str) -> str:
    from detkit.checkpoint.store import find_checkpoint, read_checkpoint  # with torch, which takes seconds to import
    from detkit.core.errors import UserError

    try:
        path = find_checkpoint(source)
        name = read_checkpoint(path).name if path.suffix == ".pt" else None
    except UserError:
        return Path(source).stem or "checkpoint"
    return str(name or path.stem)


def register() -> None:
    """Make `${run_name:MODEL,CHECKPOINT}` known to configs."""
    register_resolver("run_name", run_name)
