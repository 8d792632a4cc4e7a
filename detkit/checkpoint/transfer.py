"""Transfer weights to a detector for other classes: shared classes keep their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from detkit.checkpoint.content import Checkpoint
from detkit.core.weight_file import without_wrappers
from detkit.data.class_names import spelled_among
from detkit.model.class_rows import class_rows, move_rows

COUNTERS = "num_batches_tracked"  # of batch norms; frozen ones and old files have none


@dataclass(frozen=True)
class Transfer:
    """kept, new, dropped: names of classes. fresh: names of weights that start anew. unused: of those given.

    fitting: how many weights that do not depend on the classes were there alike, `of` how many.
    """

    fitting: int
    of: int
    kept: list[str]
    new: list[str]
    dropped: list[str]
    fresh: list[str]
    unused: list[str]

    def __str__(self) -> str:
        parts = [f"rows kept: {listed(self.kept) or 'none'}; new: {listed(self.new) or 'none'}"]
        for what, names in (
            ("dropped", self.dropped), ("weights that start anew", self.fresh), ("weights without a place", self.unused)
        ):  # fmt: skip
            if names:
                parts.append(f"{what}: {listed(names)}")
        return "; ".join(parts)


def transfer(
    detector: nn.Module,
    start: Checkpoint,
    classes: Sequence[str],
    build: Callable[[int], nn.Module],
) -> Transfer:
    """Fill `detector`, which is for `classes`, with the weights of checkpoint `start` (averaged where kept).

    Rows by class (`detkit.model.class_rows`) go where the class of the same name is, COCO's spelling of one of VOC's
    (`detkit.data.class_names`) being the same. Those of other classes stay as
    they are, and so do weights of another shape. build: makes a detector like this one for another number of classes,
    which shows what depends on it in parts that do not say so.
    """
    own = detector.state_dict()
    weights = without_wrappers(start.weights, own)
    before = start.classes
    spelled = [spelled_among(name, before, classes) for name in classes]  # as the checkpoint has them
    origin = [None if name is None else before.index(name) for name in spelled]
    rows, rows_before = class_rows(detector, len(classes)), class_rows(detector, len(before))
    silent = set() if list(classes) == list(before) else _silent(own, weights, rows, len(classes), len(before), build)

    fitting: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name in rows:
            moved = move_rows(own[name], value.to(own[name].device), rows[name], rows_before[name], origin)
            if moved is not None:
                fitting[name] = moved
        elif name not in own or (name not in silent and value.shape == own[name].shape):
            fitting[name] = value  # of what has no place, a part may know the meaning
    missing, unused = detector.load_state_dict(fitting, strict=False)
    fresh = [name for name in missing if not name.endswith(COUNTERS)]

    asked = [name for name in own if not (name in rows or name in silent or name.endswith(COUNTERS))]
    return Transfer(
        fitting=len(set(asked) - set(fresh)),
        of=len(asked),
        kept=[name for name, known in zip(classes, spelled, strict=True) if known is not None],
        new=[name for name, known in zip(classes, spelled, strict=True) if known is None],
        dropped=[name for name in before if name not in spelled],
        fresh=fresh,
        unused=[name for name in unused if not name.endswith(COUNTERS)],
    )


def listed(names: Sequence[str], most: int = 20) -> str:
    """The names, or the first of them, between commas."""
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


def _silent(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    rows: Mapping[str, Tensor],
    now: int,
    before: int,
    build: Callable[[int], nn.Module],
) -> set[str]:
    """The names of weights whose size depends on the number of classes though no part says which rows are whose."""
    if now != before and all(name in rows or own[name].shape == weights[name].shape for name in own if name in weights):
        return set()
    other = build(before if now != before else now + 1).state_dict()
    return {name for name in own if name not in rows and name in other and own[name].shape != other[name].shape}
