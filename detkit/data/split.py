"""Read a split that a data config names, and check that it serves its purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detkit.config.instantiate import build
from detkit.config.node import is_missing
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.core.structures import ProposalSource
from detkit.core.suggest import nearest
from detkit.data.annotation_builder import check_classes
from detkit.data.annotations import Annotations
from detkit.data.category_ids import fill_category_ids
from detkit.data.proposals import Proposals
from detkit.data.quality.content import require_images, require_objects


def read_split(data: Settings, split: str | None, classes: Sequence[str] | None = None) -> Annotations:
    """The annotations of `split` of a data config (keys: root, reader, classes, difficult, repair).

    classes: the list that a model was trained with; without it `data.classes` counts, and without that the
    reader finds them. With data.difficult=keep no object is difficult, wherever it is used.
    Raises UserError where the root or the split does not exist, where a class name looks mistyped, and with
    repair=error on the first fault.
    """
    if split is None:
        raise UserError("no split is given: set data.train_split, data.val_split or data.test_split")
    root = _root(data)
    reader = data["reader"] if callable(data["reader"]) else build(data["reader"], "data.reader")
    given = classes if classes is not None else data.get("classes")
    try:
        annotations: Annotations = reader(root, str(split), None if given is None else check_classes(given))
    except UserError as error:
        if root.exists():
            raise
        # said only now: a reader may create its folder, or know better what to do
        if "does not exist" in str(error):
            raise
        raise UserError(f"data.root={root} does not exist (current folder: {Path.cwd()})") from error
    if given is not None:
        _reject_mistyped(annotations)
    if annotations.faults and data.get("repair") == "error":
        first, count = annotations.faults[0], len(annotations.faults)
        raise UserError(f"{first.where}: {first.kind}: {first.message} (and {count - 1} more; data.repair=error)")
    if data.get("difficult") == "keep":
        annotations.difficult[:] = False
    return annotations


@dataclass(frozen=True)
class Split:
    """A split, and the regions of its images where the detector takes them from outside.

    proposals: of all images, in order. source: what gave them. repair: what is done with images that cannot be read,
    `data.repair`.
    """

    annotations: Annotations
    proposals: Proposals | None = None
    source: ProposalSource | Proposals | None = None
    repair: str = "clip"


class TrainingSplits(NamedTuple):
    """What a training reads; val and test are None where the config names none."""

    train: Annotations
    val: Annotations | None
    test: Annotations | None

    @property
    def final(self) -> Annotations | None:
        """The split of the result: test, or val where there is no test."""
        return self.test if self.test is not None else self.val

    def describe(self) -> str:
        """A line for each split that has something to be said about: what its reader met, what it cannot measure."""
        lines = []
        for split in (split for split in self if split is not None):
            lines += describe_reading(split)
        for measured in (self.val, self.test):
            if measured is not None and measured.difficult.all():
                lines.append(
                    f"{measured.source} has no objects that count: nothing can be measured on it"
                    + ("; the latest weights are the result" if measured is self.val else "")
                )
        return "\n".join(dict.fromkeys(line for line in lines if line))


def read_training_splits(data: Settings) -> TrainingSplits:
    """All splits of a data config, read and checked before the first step: a fault in one must not end a training.

    Raises UserError as `read_split`, where there is nothing to learn from, and where a split that is measured on has
    no images, or objects of none of the classes.
    """
    train = read_training_split(data, data["train_split"])
    read: dict[str, Annotations] = {}
    for use in ("val", "test"):
        name = data.get(f"{use}_split")
        if name is not None and str(name) not in read:
            measured = read_measured_split(data, name, train.classes)
            read[str(name)] = fill_category_ids(measured, train.category_ids)
    val, test = (None if data.get(key) is None else read[str(data[key])] for key in ("val_split", "test_split"))
    return TrainingSplits(train, val, test)


def read_training_split(data: Settings, split: str | None, classes: Sequence[str] | None = None) -> Annotations:
    """`read_split`, and UserError where nothing can be learnt from what it gives."""
    annotations = read_split(data, split, classes)
    require_objects(annotations)
    return annotations


def read_measured_split(data: Settings, split: str | None, classes: Sequence[str]) -> Annotations:
    """`read_split` for a model with `classes`, and UserError where none of the images, or of the classes, is in it."""
    annotations = read_split(data, split, classes)
    require_images(annotations)
    strangers = [fault for fault in annotations.faults if fault.kind == "unknown class"]
    if len(annotations.labels) == 0 and strangers:
        raise UserError(f"{annotations.source} has no object of a class of the model: {strangers[0].message}")
    return annotations


def describe_reading(annotations: Annotations) -> list[str]:
    """The lines for a log of what a reader met: its faults, and what is none but should be said."""
    faults = describe_faults(annotations)
    return [*([f"{annotations.source}: faults while reading: {faults}"] if faults else []), *annotations.notes]


def describe_faults(annotations: Annotations) -> str:
    """One line for a log: how many faults of each kind the reader met, and the first; empty if none."""
    if not annotations.faults:
        return ""
    counts = Counter(fault.kind for fault in annotations.faults)
    first = annotations.faults[0]
    kinds = ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())
    return f"{kinds}, as in {first.where}: {first.message}"


def _root(data: Settings) -> Path:
    if is_missing(data, "root") or data.get("root") in (None, ""):
        raise UserError("data.root is not set: add data.root=<folder of the data set>")
    return Path(str(data["root"])).expanduser()  # a folder may be called 2007


def _reject_mistyped(annotations: Annotations) -> None:
    """A class without objects whose name is close to one in the files is a slip, not a choice."""
    counts = np.bincount(annotations.labels, minlength=len(annotations.classes))
    for name, count in zip(annotations.classes, counts, strict=True):
        meant = nearest(name, annotations.left_out, alike=0.8)
        if count == 0 and meant:
            raise UserError(
                f"data.classes: no object is called {name!r}; did you mean {meant!r}? "
                f"({annotations.source} also has: {', '.join(sorted(annotations.left_out))})"
            )
