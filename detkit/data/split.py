"""From a data config to the annotations of one of its splits."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from detkit.data.annotations import Annotations
from detkit.errors import UserError
from detkit.target import build


def read_split(data: Mapping[str, Any], split: str | None, classes: Sequence[str] | None = None) -> Annotations:
    """The annotations of `split` of a data config (keys: root, reader, classes, repair).

    classes: the list that a model was trained with; without it `data.classes` counts, and without that the
    reader finds them. Raises UserError where the root or the split does not exist, where a class name looks
    mistyped, and with repair=error on the first fault.
    """
    if split is None:
        raise UserError("no split is given: set data.train_split, data.val_split or data.test_split")
    root = _root(data)
    reader = data["reader"] if callable(data["reader"]) else build(data["reader"], "data.reader")
    given = classes if classes is not None else data.get("classes")
    try:
        annotations: Annotations = reader(root, split, None if given is None else [str(name) for name in given])
    except UserError as error:
        if root.is_dir():
            raise
        # said only now: a reader may create its folder
        raise UserError(f"data.root={root} does not exist (current folder: {Path.cwd()})") from error
    if given is not None:
        _reject_mistyped(annotations)
    if annotations.faults and data.get("repair") == "error":
        first, count = annotations.faults[0], len(annotations.faults)
        raise UserError(f"{first.where}: {first.kind}: {first.message} (and {count - 1} more; data.repair=error)")
    return annotations


def describe_faults(annotations: Annotations) -> str:
    """One line for a log: how many faults of each kind the reader left out; empty if none."""
    counts = Counter(fault.kind for fault in annotations.faults)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())


def _root(data: Mapping[str, Any]) -> Path:
    if OmegaConf.is_config(data) and OmegaConf.is_missing(data, "root"):
        raise UserError("data.root is not set: add data.root=<folder of the data set>")
    return Path(data["root"]).expanduser()


def _reject_mistyped(annotations: Annotations) -> None:
    """A class without objects whose name is close to one in the files is a slip, not a choice."""
    counts = np.bincount(annotations.labels, minlength=len(annotations.classes))
    others = {name.lower(): name for name in sorted(annotations.left_out)}
    for name, count in zip(annotations.classes, counts, strict=True):
        close = difflib.get_close_matches(name.lower(), list(others), n=1, cutoff=0.8)
        if count == 0 and close:
            raise UserError(
                f"data.classes: no object is called {name!r}; did you mean {others[close[0]]!r}? "
                f"({annotations.source} also has: {', '.join(sorted(annotations.left_out))})"
            )
