"""Ground truth that came from files, and how prediction files name what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.builder import nearest
from detkit.errors import UserError
from detkit.metric.records import GroundTruth


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Ground truth read from files, and what predictions call its images and classes.

    file_of: the index of each image by the name of its file without folder and suffix, for text files.
    image_of: the same by COCO image id. category_of: the label of each COCO category id. Both are empty after text
    files, and `classes` then holds those that occur.
    """

    ground_truth: GroundTruth
    classes: list[str]
    file_of: Mapping[str, int]
    image_of: Mapping[str, int] = field(default_factory=dict)
    category_of: Mapping[str, int] = field(default_factory=dict)


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


def from_xywh(xywh: NDArray[np.float64], *, inclusive: bool = False) -> NDArray[np.float64]:
    """float64 [N, 4] xyxy half-open from xywh; `inclusive` boxes reach to the end of pixel x+w, y+h."""
    boxes = xywh.reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:] + inclusive], axis=1)
