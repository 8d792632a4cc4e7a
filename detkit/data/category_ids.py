"""Keep the category ids that COCO files give to classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from detkit.data.annotations import Annotations

CategoryId = int | str  # as the file has it


def fill_category_ids(annotations: Annotations, trained: Sequence[CategoryId | None] | None) -> Annotations:
    """The annotations with an id for each class that their file lacks: that of the training, else the next free one.

    trained: the ids of the same classes in the file that a model was trained on. One that means another class in the
    file of the annotations is not taken. Annotations that are not of a COCO file stay as they are.
    """
    if annotations.category_ids is None or None not in annotations.category_ids:
        return annotations
    ids = list(annotations.category_ids)
    for label, known in enumerate(trained or []):
        if ids[label] is None and known is not None and str(known) not in map(str, ids):
            ids[label] = known
    taken = {str(known) for known in [*ids, *(trained or [])]}
    free = (number for number in count(1) if str(number) not in taken)
    return replace(annotations, category_ids=[next(free) if known is None else known for known in ids])
