"""Check that all rows of a comparison are evaluated on the same objects and in the same precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detkit.checkpoint.build import model_without_weights
from detkit.compare.comparison import AnyTask
from detkit.compare.contender import Contender
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.data.annotations import Annotations
from detkit.data.split import read_split
from detkit.evaluate.evaluate import merge_data, read_test_split
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.task.base import task_of


def check_one_protocol(contenders: Sequence[Contender]) -> AnyTask:
    """The task of all contenders.

    Raises UserError where they have several, or would be measured on different images or objects, or in different
    precisions.

    Where checkpoints take part, the split is read as each row will read it: what they know as a class may differ.
    """
    found: dict[tuple[str, ...], str] = {}
    tasks = []
    count = len(contenders) > 1 and any(contender.checkpoint is not None for contender in contenders)
    for contender in contenders:
        data, precision, classes, task = _asked(contender)
        tasks.append(task)
        split = data.get("test_split") or data.get("val_split")
        if split is None:
            raise UserError(f"{contender.name}: no split to measure on: set data.test_split or data.val_split")
        asked = [f"data.root={Path(data['root']).resolve()}", f"split={split}", f"precision={precision}"]
        asked.append(f"task={type(task).__module__}.{type(task).__qualname__}")
        if count:
            annotations = _read(contender.name, data, split, classes, task)
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
    return tasks[0]


def _asked(contender: Contender) -> tuple[Settings, str, Sequence[str] | None, AnyTask]:
    """The data config of a row, the precision, its classes where they are known by a checkpoint, and its task."""
    job = contender.jobs[0]
    if contender.checkpoint is None:  # nothing is there yet whose classes one could read
        precision = str(job.trainer.precision if contender.trainings else job.precision)
        assert contender.task is not None
        return job.data, precision, None, contender.task
    saved = load_checkpoint(contender.checkpoint, trust=job.trust)
    data = merge_data(job.data, saved.data_config, saved.trust)
    return data, str(job.precision), saved.classes, task_of(model_without_weights(saved))


def _read(name: str, data: Settings, split: str, classes: Sequence[str] | None, task: AnyTask) -> Annotations:
    try:
        if classes is None:  # those of a training are those of what it trains on
            classes = read_split(data, data["train_split"]).classes
        return read_test_split(data, split, classes, task)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
