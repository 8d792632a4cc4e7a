"""Collate samples to batches, order the epochs, build the torch loader."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from detkit.core.errors import UserError
from detkit.core.interrupt import leave_to_parent
from detkit.core.structures import Batch, Target
from detkit.data.canvas import canvas_groups, canvas_of
from detkit.data.dataset import DetectionDataset, Key, Sample
from detkit.data.shared_memory import BatchLoader, describe_shortage, free_bytes, share, workers_that_fit

LOGGER = logging.getLogger(__name__)


def collate(samples: Sequence[Sample], pad_multiple: int = 1) -> Batch:
    """Samples of any size on one canvas, its sides rounded up to `pad_multiple`; zero at the right and bottom."""
    sizes = [(sample.image.shape[1], sample.image.shape[2]) for sample in samples]
    tallest, widest = (max(side) for side in zip(*sizes, strict=True))
    height, width = canvas_of((tallest, widest), pad_multiple)
    images = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8)
    targets = [sample.target.copy() for sample in samples]
    proposals = [target.pop("proposals") for target in targets if "proposals" in target]
    for canvas, sample, (h, w) in zip(images, samples, sizes, strict=True):
        canvas[:, :h, :w] = sample.image
    return Batch(
        images=share(images),
        sizes=sizes,
        original_sizes=[sample.target["original_size"] for sample in samples],
        image_ids=[sample.target["image_id"] for sample in samples],
        targets=PortableTargets(targets),
        proposals=PortableTensors(proposals) if len(proposals) == len(samples) else None,
    )


class PortableTensors(list[torch.Tensor]):
    """A list of tensors that crosses processes as arrays: every tensor sent costs an open file until it is freed."""

    def __reduce__(self) -> tuple[object, ...]:
        return _tensors_from_arrays, ([tensor.numpy() for tensor in self],)


def _tensors_from_arrays(arrays: list[NDArray[np.float32]]) -> PortableTensors:
    return PortableTensors(torch.from_numpy(array) for array in arrays)


class PortableTargets(list[Target]):
    """A list of targets that crosses processes as arrays, for the same reason."""

    def __reduce__(self) -> tuple[object, ...]:
        rows = [
            {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in target.items()}
            for target in self
        ]
        return _from_arrays, (rows,)


def _from_arrays(rows: list[dict[str, object]]) -> PortableTargets:
    def tensors(row: dict[str, object]) -> dict[str, object]:
        return {key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for key, value in row.items()}

    return PortableTargets(cast(Target, tensors(row)) for row in rows)


SAME_SIDE = 10  # batches in a row whose images have one size (YOLO9000, section 2)


class ResumableBatchSampler(Sampler[list[Key]]):
    """The batches of one epoch, as lists of keys, from any position in it.

    shuffle: True is training: the order is a permutation drawn from (seed, epoch), and every rank gets the same
        number of batches, the first ones repeated where they do not divide. False is evaluation: rank r gets
        samples r, r + world_size, ... once each.
    groups: an integer per sample; a batch holds samples of one group (of similar shape: less padding).
    drop_last: leave out batches that are not full.
    multiscale: what images are resized to, one of these for ten batches at a time, drawn from (seed, epoch); empty:
        what the data set resizes them to.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        groups: NDArray[np.integer] | None = None,
        drop_last: bool = False,
        multiscale: Sequence[int] = (),
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.groups = groups
        self.drop_last = drop_last
        self.multiscale = list(multiscale)
        self.epoch = 0
        self.first_batch = 0
        self.mixed = False
        if drop_last and num_samples and len(self) == 0:
            raise UserError(
                f"{num_samples} images make no full batch of {batch_size}: lower the batch size or set drop_last=false"
            )

    def set_position(self, epoch: int, batch: int = 0, mixed: bool = False) -> None:
        """The next iteration gives `epoch` from its batch number `batch` on, of images mixed with others or alone."""
        self.epoch = epoch
        self.first_batch = batch
        self.mixed = mixed

    def __len__(self) -> int:
        """Batches in the whole of the current epoch, for this rank."""
        return len(self._batches())

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, mixed, first = self.epoch, self.mixed, self.first_batch
        batches = self._batches()
        sides = np.random.default_rng((self.seed, epoch, 1)).choice(
            self.multiscale or [0], len(batches) // SAME_SIDE + 1
        )
        for number, batch in enumerate(batches[first:], start=first):
            side = int(sides[number // SAME_SIDE]) or None
            yield [Key(index, epoch, mixed, side) for index in batch]

    def _batches(self) -> list[list[int]]:
        if not self.shuffle:
            return self._fill(np.arange(self.rank, self.num_samples, self.world_size))
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_samples)
        batches = self._fill(order)
        missing = -len(batches) % self.world_size if batches else 0
        batches += [batches[i % len(batches)] for i in range(missing)]
        return batches[self.rank :: self.world_size]

    def _fill(self, order: NDArray[np.integer]) -> list[list[int]]:
        """Batches in the order in which they fill up, then those that never do."""
        open_batches: dict[int, list[int]] = {}
        batches = []
        for index in order.tolist():
            group = 0 if self.groups is None else int(self.groups[index])
            batch = open_batches.setdefault(group, [])
            batch.append(index)
            if len(batch) == self.batch_size:
                batches.append(open_batches.pop(group))
        return batches if self.drop_last else batches + list(open_batches.values())


def build_loader(
    dataset: DetectionDataset,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
    aspect_grouping: bool = False,
    one_canvas: bool = False,
    pin_memory: bool = False,
    drop_last: bool = False,
    persistent: bool = False,
    multiscale: Sequence[int] = (),
) -> DataLoader[Sample]:
    """A loader of `Batch`es whose `batch_sampler` is a `ResumableBatchSampler`: set its position before iterating.

    aspect_grouping: a batch holds wide images or tall ones, by the sizes that the annotations declare.
    one_canvas: a batch holds images of one canvas, as far as their sizes are known before they are read.
    persistent: keep the workers from one epoch to the next. multiscale: of the sampler.
    """
    sizes, groups = dataset.annotations.sizes, None
    if one_canvas and batch_size > 1:
        groups = canvas_groups(dataset.annotations, dataset.preprocess)
    elif aspect_grouping:
        groups = (sizes[:, 0] > sizes[:, 1]).astype(np.int64)
    sampler = ResumableBatchSampler(
        len(dataset),
        batch_size,
        seed=seed,
        shuffle=shuffle,
        rank=rank,
        world_size=world_size,
        groups=groups,
        drop_last=drop_last,
        multiscale=multiscale,
    )
    ahead = None
    if num_workers > 0:
        asked, needed, free = num_workers, batch_bytes(dataset, batch_size, multiscale), free_bytes()
        num_workers, ahead = workers_that_fit(asked, needed, None if free is None else free // world_size)
        if free is not None and (num_workers, ahead) != (asked, 2):
            LOGGER.warning(describe_shortage(asked, num_workers, needed, free))
    return BatchLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        prefetch_factor=ahead if num_workers > 0 else None,
        collate_fn=partial(collate, pad_multiple=dataset.preprocess.pad_multiple),
        pin_memory=pin_memory,
        persistent_workers=persistent and num_workers > 0,
        worker_init_fn=_start_worker,
        # the loader draws a number per epoch; from a generator of its own, the global one does not depend on how
        # often a run was resumed
        generator=torch.Generator().manual_seed(seed),
    )


def batch_bytes(dataset: DetectionDataset, batch_size: int, multiscale: Sequence[int] = ()) -> int:
    """How much memory the pixels of the largest batch take, on the canvas of the largest image."""
    sizes = {(int(height), int(width)) for width, height in np.unique(dataset.annotations.sizes, axis=0)[:10_000]}
    canvases = [dataset.preprocess.geometry(size).size for size in sizes if min(size) > 0]
    canvases += [(side, side) for side in multiscale]
    height, width = (max((canvas[axis] for canvas in canvases), default=0) for axis in (0, 1))
    return 3 * min(batch_size, max(1, len(dataset))) * height * width


def _start_worker(worker_id: int) -> None:
    leave_to_parent()  # which needs them to finish a step
    cv2.setNumThreads(0)  # workers are the parallelism; OpenCV's threads would fight over their cores
