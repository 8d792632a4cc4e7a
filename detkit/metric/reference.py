"""Ground truth that came from files, and how prediction files name what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.builder import nearest
from detkit.errors import UserError
from detkit.metric.records import GroundTruth


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Ground truth read from files, and what predictions call its images and classes.

    file_of: the index of each image by the name of its file, as `by_file_name` does. sizes: float64 [I, 2] width and
    height of each image, NaN or None where unknown.
    image_of: the same by COCO image id. category_of: the label of each COCO category id. Both are empty after text
    files, and `classes` then holds those that occur.
    """

    ground_truth: GroundTruth
    classes: list[str]
    file_of: Mapping[str, int]
    image_of: Mapping[str, int] = field(default_factory=dict)
    category_of: Mapping[str, int] = field(default_factory=dict)
    sizes: NDArray[np.float64] | None = None

    def sizes_of(self, image: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """float64 [N, 2]: the width and height of each of `image`."""
        return None if self.sizes is None else self.sizes[image]


def numbered(names: Sequence[str]) -> dict[str, int]:
    """The index of each name."""
    return {name: index for index, name in enumerate(names)}


def find_indices(names: Iterable[Any], index_of: Mapping[str, int], key: str, path: Path) -> NDArray[np.int64]:
    """int64: the index of each of `names`; raises UserError for the first that is not in `index_of`."""
    names = [str(name) for name in names]
    unknown = sorted({name for name in names if name not in index_of})
    if unknown:
        known = list(index_of)
        hint = nearest(unknown[0], known) if len(known) <= 100 else f" (it has {len(known)})"
        raise UserError(f"{path}: {key} {unknown[0]} is not in the ground truth{hint}")
    return np.array([index_of[name] for name in names], np.int64)


def by_file_name(files: Sequence[str]) -> dict[str, int]:
    """The index of each image by its whole name, by that without suffix, and by its stem where only one has it."""
    names: dict[str, int] = {}
    shorter = (lambda name: PurePosixPath(name).with_suffix("").as_posix(), lambda name: PurePosixPath(name).stem)
    whole = [name.replace("\\", "/") for name in files]
    names |= numbered(whole)
    for shorten in shorter:
        short = [shorten(name) if PurePosixPath(name).name else name for name in whole]
        counts = Counter(short)
        names = {name: index for index, name in enumerate(short) if counts[name] == 1} | names
    return names


def find_file(name: str, index_of: Mapping[str, int]) -> str:
    """What `index_of`, of `by_file_name`, calls a file: its whole name, without suffix, or its stem."""
    whole = PurePosixPath(name.replace("\\", "/"))
    tried = [str(whole), whole.with_suffix("").as_posix() if whole.name else "", whole.stem]
    return next((name for name in tried if name in index_of), name)
