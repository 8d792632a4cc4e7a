"""Check that a split has what training or evaluation needs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from detkit.core.errors import UserError
from detkit.data.annotations import Annotations, Fault
from detkit.data.quality.repair import repair


def require_images(annotations: Annotations) -> None:
    """Raise UserError, with the first faults and the places that were looked in, where a split has no images."""
    if len(annotations) == 0:
        raise UserError(_explain(annotations, "no images"))


def require_objects(annotations: Annotations) -> None:
    """Raise UserError, with the first faults and the places that were looked in, where nothing can be learnt.

    That is: no images, no classes, no objects with an inside, or difficult ones only.
    """
    require_images(annotations)
    found = _lack(annotations)
    if found is not None:
        raise UserError(_explain(annotations, f"{found.kind}: {found.message}"))


def content_faults(splits: Mapping[str, Annotations]) -> list[tuple[str, Fault]]:
    """(split, fault) of what the splits of a data set do not hold: images, objects, objects of each class."""
    faults = []
    for name, split in splits.items():
        lack = Fault("no images", split.source, "has no images") if len(split) == 0 else _lack(split)
        if lack is not None:
            faults.append((name, lack))
    names = [name for name in splits if not any(name == other for other, _ in faults)]
    if names:
        classes = splits[names[0]].classes
        counts = sum(np.bincount(splits[name].labels, minlength=len(classes)) for name in names)
        for label in np.flatnonzero(np.asarray(counts) == 0):
            message = f"no object of class {classes[label]!r} is in {' or '.join(names)}"
            faults.append((names[0], Fault("class without objects", splits[names[0]].source, message)))
    return faults


def _lack(annotations: Annotations) -> Fault | None:
    """What keeps a split with images from being learnt from."""
    where = annotations.source
    if not annotations.classes and annotations.left_out:
        return Fault("no classes", where, "data.classes is empty: null takes all that there are")
    if len(annotations.labels) == 0:
        hint = "" if annotations.classes else ", so there are no classes either"
        if annotations.left_out:
            most = sorted(annotations.left_out, key=lambda name: (-annotations.left_out[name], name))[:5]
            known = ", ".join(annotations.classes[:5])
            hint = f"; those of {', '.join(most)} are left out, as data.classes has only {known}"
        return Fault("no objects", where, f"not one in {_images(annotations)}{hint}")
    usable = repair(annotations, "clip")
    if len(usable.labels) == 0:
        return Fault("no objects", where, f"no box of {len(annotations.labels)} has an inside in its picture")
    if usable.difficult.all():
        message = f"{len(usable.labels)} difficult or crowd, no others; to count them: data.difficult=keep"
        return Fault("all objects difficult", where, message)
    return None


def _explain(annotations: Annotations, what: str) -> str:
    """`what` a split has, its first faults, and where was looked."""
    faults = [f"{fault.where}: {fault.kind}: {fault.message}" for fault in annotations.faults[:3]]
    more = len(annotations.faults) - len(faults)
    lines = [f"{annotations.source} has {what}", *faults, *([f"... and {more} more faults"] if more > 0 else [])]
    if annotations.looked_in:
        lines.append(f"looked in {', '.join(annotations.looked_in[:6])}")
    return "\n".join([*lines, *annotations.notes])


def _images(annotations: Annotations) -> str:
    return f"{len(annotations)} image{'s' * (len(annotations) != 1)}"
