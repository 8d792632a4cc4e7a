"""What the rows of a comparison are measured on: the same split, with the same objects, in the same precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit.checkpoint.open import load_checkpoint
from detkit.data.annotations import Annotations
from detkit.data.split import read_split
from detkit.engine.contender import Contender
from detkit.engine.evaluate import merge_data, read_test_split
from detkit.errors import UserError


def check_one_protocol(contenders: Sequence[Contender]) -> None:
    """Raise UserError where rows would be measured on different images or objects, or in different precisions.

    Where checkpoints take part, the split is read as each row will read it: what they know as a class may differ.
    """
    found: dict[tuple[str, ...], str] = {}
    count = len(contenders) > 1 and any(contender.checkpoint is not None for contender in contenders)
    for contender in contenders:
        data, precision, classes = _asked(contender)
        split = data.get("test_split") or data.get("val_split")
        if split is None:
            raise UserError(f"{contender.name}: no split to measure on: set data.test_split or data.val_split")
        asked = [f"data.root={Path(data['root']).resolve()}", f"split={split}", f"precision={precision}"]
        if count:
            annotations = _read(contender.name, data, split, classes)
            asked.append(f"{len(annotations)} images with {len(annotations.labels)} objects")
        elif data.get("classes") is not None:
            asked.append(f"data.classes={list(data['classes'])}")
        found.setdefault(tuple(asked), contender.name)
    if len(found) > 1:
        lines = [f"{name}: {', '.join(asked)}" for asked, name in found.items()]
        raise UserError(
            "these would not be measured alike:\n" + "\n".join(lines) + "\nset data=... (and its splits and classes) "
            "for all of them"
        )


def _asked(contender: Contender) -> tuple[Mapping[str, Any], str, Sequence[str] | None]:
    """The data config of a row, the precision, and its classes where they are known by a checkpoint."""
    job = contender.jobs[0]
    if contender.checkpoint is None:  # nothing is there yet whose classes one could read
        return job.data, str(job.trainer.precision if contender.trainings else job.precision), None
    saved = load_checkpoint(contender.checkpoint, trust=job.trust)
    data = merge_data(job.data, saved.data_config, saved.trust)
    return data, str(job.precision), saved.classes


def _read(name: str, data: Mapping[str, Any], split: str, classes: Sequence[str] | None) -> Annotations:
    try:
        if classes is None:  # those of a training are those of what it trains on
            classes = read_split(data, data["train_split"]).classes
        return read_test_split(data, split, classes)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
