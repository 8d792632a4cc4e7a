"""Group images by canvas size, so that what is found in one does not depend on the others of its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from detkit.core.errors import UserError
from detkit.core.structures import Batch, Size
from detkit.data.annotations import Annotations
from detkit.data.dataset import DetectionDataset, Sample
from detkit.image.preprocess import Preprocess, fixed_canvas
from detkit.image.read import read_image_size

HELD = 4  # times the batch size: samples that may wait for others of their canvas
Found = TypeVar("Found")
Item = TypeVar("Item")


def canvas_of(size: Size, pad_multiple: int) -> Size:
    """The (height, width) of the canvas of an image of `size` that is alone on it."""
    height, width = (-(-side // pad_multiple) * pad_multiple for side in size)
    return height, width


def canvas_groups(annotations: Annotations, preprocess: Preprocess) -> NDArray[np.int64] | None:
    """int64 [N], equal for images of one canvas, by the sizes that are declared or in the headers; None: all have one.

    Images whose sizes are not found are a group; what a size says wrongly `split_by_canvas` sets right.
    """
    if fixed_canvas(preprocess) is not None:
        return None
    sizes = annotations.sizes.copy()
    for index in np.flatnonzero((sizes <= 0).any(axis=1)).tolist():
        try:
            sizes[index] = read_image_size(annotations.image_paths[index])
        except UserError:  # told when it is read
            sizes[index] = 0
    kinds, of_image = np.unique(sizes.reshape(-1, 2), axis=0, return_inverse=True)
    numbers: dict[Size, int] = {}
    found = []
    for height, width in kinds.tolist():
        size = preprocess.geometry((height, width)).size if height > 0 and width > 0 else (0, 0)
        found.append(numbers.setdefault(canvas_of(size, preprocess.pad_multiple), len(numbers)))
    return np.array(found, np.int64)[of_image.reshape(-1)]


def split_by_canvas(batch: Batch, pad_multiple: int) -> Iterator[Batch]:
    """The batch in parts whose images have one canvas, each cut to it; itself, where that is all of it."""
    places: dict[Size, list[int]] = {}
    for index, size in enumerate(batch.sizes):
        places.setdefault(canvas_of(size, pad_multiple), []).append(index)
    if len(places) <= 1:
        yield batch
        return
    for (height, width), indices in places.items():
        yield replace(
            batch,
            images=batch.images[indices][:, :, :height, :width].contiguous(),
            sizes=_at(batch.sizes, indices),
            original_sizes=_at(batch.original_sizes, indices),
            image_ids=_at(batch.image_ids, indices),
            targets=None if batch.targets is None else _at(batch.targets, indices),
            proposals=None if batch.proposals is None else _at(batch.proposals, indices),
        )


class CanvasLoader:
    """The batches of a loader, split by canvas where an image is not of the size that was declared.

    dataset: of the loader. The length is that of the loader.
    """

    def __init__(self, loader: DataLoader[Sample], pad_multiple: int) -> None:
        self.dataset = cast(DetectionDataset, loader.dataset)
        self._loader = loader
        self._pad_multiple = pad_multiple

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            yield from split_by_canvas(batch, self._pad_multiple)


def _at(items: Sequence[Item], indices: Sequence[int]) -> list[Item]:
    return [items[index] for index in indices]


def run_in_order(
    samples: Iterable[Sample], pad_multiple: int, batch_size: int, run: Callable[[list[Sample]], Sequence[Found]]
) -> Iterator[Found]:
    """What `run` finds in each of the samples, in their order; it is given up to `batch_size` of one canvas at a time.

    No more than HELD * batch_size samples are taken ahead of what is yielded, of one canvas no more than batch_size.
    """
    waiting: dict[Size, list[tuple[int, Sample]]] = {}
    done: dict[int, Found] = {}
    first = 0  # the next one to be yielded

    def finish(canvas: Size) -> None:
        numbers, batch = zip(*waiting.pop(canvas), strict=True)
        done.update(zip(numbers, run(list(batch)), strict=True))

    for number, sample in enumerate(samples):
        canvas = canvas_of((sample.image.shape[1], sample.image.shape[2]), pad_multiple)
        group = waiting.setdefault(canvas, [])
        group.append((number, sample))
        if len(group) == batch_size:
            finish(canvas)
        if first not in done and number - first + 1 >= HELD * batch_size:
            finish(next(iter(waiting)))  # groups are in the order of their first samples
        while first in done:
            yield done.pop(first)
            first += 1
    while waiting:
        finish(next(iter(waiting)))
        while first in done:
            yield done.pop(first)
            first += 1
