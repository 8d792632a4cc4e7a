"""Serve the samples of a split as a torch data set: read, repaired, augmented, resized."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from detkit.core.errors import UserError
from detkit.core.structures import Size, Target
from detkit.data.annotations import Annotations
from detkit.data.augment.mosaic import Columns, Mosaic, Picture
from detkit.data.augment.transform import Augment
from detkit.data.proposals import Proposals
from detkit.data.quality.repair import Policy, box_faults, repair_boxes
from detkit.image.preprocess import Decoded, Preprocess
from detkit.image.read import read_image

ROOM = 2.0  # times the pixels that the detector sees, in pictures decoded smaller, for parts that are cut out of them


class Sample(NamedTuple):
    """image: uint8 [3, h, w] RGB; target: in the frame of that image."""

    image: Tensor
    target: Target


class Key(NamedTuple):
    """Which sample is asked for: of the image at an index. The epoch changes nothing but what is random about it.

    mixed: whether other images may be put into it. side: of the resized image, in place of that of the preprocess.
    """

    image: int
    epoch: int = 0
    mixed: bool = False
    side: int | None = None


class Loaded(NamedTuple):
    """What was read for a sample. found: its objects, in the pixels of the file, which has `size` (h, w)."""

    number: int
    image: NDArray[np.uint8]
    size: Size
    found: Columns

    def picture(self) -> Picture:
        """The image and its objects, in the pixels of the image."""
        height, width = self.image.shape[:2]
        if self.size == (height, width):
            return self.image, self.found
        scale = np.array([width / self.size[1], height / self.size[0]] * 2, np.float32)
        moved = {key: self.found[key] * scale for key in ("boxes", "proposals") if key in self.found}
        return self.image, self.found | moved


Difficult = Literal["keep", "drop", "ignore"]


class DetectionDataset(Dataset[Sample]):
    """Reads, repairs, mixes, augments and resizes images.

    A sample is a pure function of (seed, key): any worker, in any order, gives the same.

    difficult: "keep" makes them ordinary objects, "drop" removes them, "ignore" leaves the flag to the model.
    repair: what to do about broken data. "clip" cuts boxes at the border and drops those without an inside
        and duplicates; "drop" drops every faulty box; "error" raises UserError naming the file.
    unreadable: what stands in for an image that cannot be decoded, unless repair is "error": "next", the next
        readable one (training), or "blank", a black image that keeps its id and objects (evaluation: they
        count as missed). Whatever was repaired is named in target["faults"].
    proposals: one entry per image, in the order of the annotations; they go through augmentation and resizing with
        the boxes.
    mix: makes one training picture of several, where the key asks for it; before `augment`.
    read: decodes a file, as `read_image` does.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        preprocess: Preprocess,
        augment: Augment | None = None,
        difficult: Difficult = "ignore",
        repair: Policy = "clip",
        unreadable: Literal["next", "blank"] = "next",
        seed: int = 0,
        proposals: Proposals | None = None,
        mix: Mosaic | None = None,
        read: Callable[..., NDArray[np.uint8]] = read_image,
    ) -> None:
        _check_choice("data.difficult", difficult, get_args(Difficult))
        _check_choice("data.repair", repair, ("clip", "drop", "error"))
        # workers get a copy of this object; the faults are for whoever read the split
        self.annotations = dataclasses.replace(annotations, faults=[])
        self.classes = annotations.classes
        self.preprocess = preprocess
        self.augment = augment
        self.difficult = difficult
        self.repair = repair
        self.unreadable = unreadable
        self.seed = seed
        self.proposals = proposals
        self.mix = mix
        self.read = read
        if mix is not None and proposals is not None:
            raise UserError(
                "multi_image=... and proposal=... do not go together: a mixed picture has no regions of its own"
            )

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: int | tuple[int, int] | Key) -> Sample:
        """The sample of a key, or of the beginning of one: an index, or (index, epoch)."""
        key = Key(*key) if isinstance(key, tuple) else Key(key)
        faults: list[tuple[str, str]] = []
        preprocess = self.preprocess if key.side is None else self.preprocess.at(key.side)
        mix = self.mix if key.mixed else None
        changes = mix is not None or self.augment is not None
        load = partial(self._load, preprocess=preprocess, room=ROOM if changes else 1.0, faults=faults)
        loaded = load(key.image)
        index, image, original_size, found = loaded
        if self.proposals is not None:
            found["proposals"] = self.proposals.of(index).copy()
        frame = original_size
        if changes:
            image, found = loaded.picture()
            seed = _seed(self.seed, key.epoch, index)
            if mix is not None:
                image, found = mix((image, found), lambda other: load(other).picture(), len(self), seed)
            if self.augment is not None:
                image, found = self.augment(image, found, seed)
            frame = image.shape[0], image.shape[1]
        pixels = preprocess(image, frame)
        boxes = preprocess.to_input(found["boxes"], frame)
        boxes, _ = repair_boxes(boxes, (pixels.shape[0], pixels.shape[1]), "clip")  # rounding may reach beyond
        target: Target = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(found["labels"]),
            "difficult": torch.from_numpy(found["difficult"]),
            "image_id": self.annotations.image_ids[index],
            "original_size": original_size,
        }
        if self.proposals is not None:
            moved = preprocess.to_input(found["proposals"], frame)
            target["proposals"] = torch.from_numpy(moved)
        if faults:
            target["faults"] = tuple(faults)
        return Sample(torch.from_numpy(pixels).permute(2, 0, 1), target)

    def iter_targets(self) -> Iterator[Target]:
        """What is known of each image without reading it, in the pixels of its file; boxes without an inside left out.

        "proposals" is there where there are any.
        """
        for index in range(len(self)):
            boxes, labels, difficult = self.annotations.objects(index)
            keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            hard = difficult & (self.difficult != "keep")
            target: Target = {
                "boxes": torch.from_numpy(boxes[keep]),
                "labels": torch.from_numpy(labels[keep]),
                "difficult": torch.from_numpy(hard[keep]),
            }
            if self.proposals is not None:
                target["proposals"] = torch.from_numpy(self.proposals.of(index).copy())
            yield target

    def _load(self, index: int, preprocess: Preprocess, room: float, faults: list[tuple[str, str]]) -> Loaded:
        """The image at `index`, or its stand-in. room: as of `Preprocess.read`."""
        index, image, size = self._read(index, partial(preprocess.read, decoder=self.read, room=room), faults)
        return Loaded(index, image, size, self._objects(index, size, faults))

    def _read(
        self, index: int, read: Callable[..., Decoded], faults: list[tuple[str, str]]
    ) -> tuple[int, NDArray[np.uint8], Size]:
        """The index of what was read, the image, and the size of its file."""
        for step in range(len(self)):
            candidate = (index + step) % len(self)
            try:
                return candidate, *self._decode(candidate, read, faults)
            except UserError:
                if self.repair == "error":
                    raise
                faults.append(("unreadable image", self.annotations.image_ids[candidate]))
                if self.unreadable == "blank":
                    height, width = (int(side) or 32 for side in self.annotations.sizes[candidate])
                    return candidate, np.zeros((height, width, 3), np.uint8), (height, width)
        raise UserError(f"{self.annotations.source}: none of its {len(self)} images can be read")

    def _decode(self, index: int, read: Callable[..., Decoded], faults: list[tuple[str, str]]) -> Decoded:
        path = self.annotations.image_paths[index]
        declared = tuple(self.annotations.sizes[index].tolist())
        image, size = read(path)
        if declared == (0, 0) or size == declared:
            return image, size
        if self.repair == "error":
            raise UserError(f"{path} is {size} (height, width) but its annotation declares {declared}")
        faults.append(("size mismatch", self.annotations.image_ids[index]))
        if size == declared[::-1]:
            # the tool that drew the boxes may have ignored the EXIF rotation: the declared size tells
            stored, stored_size = read(path, upright=False)
            if stored_size == declared:
                return stored, stored_size
        return image, size

    def _objects(self, index: int, size: Size, faults: list[tuple[str, str]]) -> Columns:
        boxes, labels, difficult = self.annotations.objects(index)
        wrong = {kind: mask for kind, mask in box_faults(boxes, size, labels).items() if mask.any()}
        if wrong and self.repair == "error":
            kinds = ", ".join(f"{int(mask.sum())} {kind}" for kind, mask in wrong.items())
            raise UserError(f"{self.annotations.source}: image {self.annotations.image_ids[index]} has {kinds}")
        faults.extend((kind, self.annotations.image_ids[index]) for kind in wrong)
        cut, keep = repair_boxes(boxes, size, self.repair, labels)
        if self.difficult == "drop":
            keep &= ~difficult
        flags = np.zeros_like(difficult) if self.difficult == "keep" else difficult
        return {
            "boxes": cut[keep],
            "labels": labels[keep].copy(),
            "difficult": flags[keep].copy(),
        }


def _seed(seed: int, epoch: int, index: int) -> int:
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)[0])


def _check_choice(key: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UserError(f"{key}={value}: choose one of {', '.join(valid)}")
