"""Define the structures that travel between data, models and metrics; boxes are xyxy, 0-based, half-open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    import supervision

Size = tuple[int, int]  # (height, width) in pixels
VOID = 255  # in a mask: a pixel that is not asked for, and what padding is filled with


class Target(TypedDict, total=False):
    """What is known about one image, in the frame of that image as the model sees it.

    boxes: float32 [N, 4] absolute pixels, 0 <= x1 < x2 <= width; N may be 0.
    labels: int64 [N], 0..C-1.
    difficult: bool [N]; VOC difficult or COCO crowd: never a positive, never a negative, ignored by AP.
    proposals: float32 [P, 4], best first, only of models that take them from outside, and only until images are
        put together: a batch has them in `Batch.proposals`.
    mask: uint8 [h, w], the class of each pixel, VOID where none is asked for; of data with masks.
    faults: (kind, image id) of what had to be repaired; absent where nothing was.
    """

    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    proposals: Tensor
    mask: Tensor
    image_id: str
    original_size: Size
    faults: tuple[tuple[str, str], ...]


@dataclass
class Batch:
    """Images padded to one canvas, and what is known about them.

    images: uint8 [B, 3, H, W] RGB, content at the top left, zero beyond it; normalised inside the model.
    sizes: (h, w) of the content of each image on the canvas.
    original_sizes: (H, W) of each file after EXIF rotation: the frame of `Detections`.
    targets: one per image in the canvas frame, or None where nothing is known (prediction).
    proposals: float32 [P, 4] per image on the canvas, best first, where the model takes them from outside.
    """

    images: Tensor
    sizes: list[Size]
    original_sizes: list[Size]
    image_ids: list[str]
    targets: list[Target] | None = None
    proposals: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """Copy the batch with its tensors to `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory; `DataLoader(pin_memory=True)` calls this."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        def on_target(target: Target) -> Target:
            items = target.items()
            return cast(Target, {key: function(item) if isinstance(item, Tensor) else item for key, item in items})

        targets = None if self.targets is None else [on_target(target) for target in self.targets]
        proposals = None if self.proposals is None else [function(boxes) for boxes in self.proposals]
        return replace(self, images=function(self.images), targets=targets, proposals=proposals)


class DetectionRow(TypedDict):
    """A detection as JSON: box [x1, y1, x2, y2] in pixels of the original file; name: the label's number if unknown."""

    box: list[float]
    score: float
    label: int
    name: str


@dataclass
class Detections:
    """What a detector found in one image, in the pixels of the original file.

    boxes: float32 [D, 4], clipped to the image. scores: float32 [D], descending. labels: int64 [D], 0..C-1.
    names: class names by label, where known.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Tensor | slice) -> Detections:
        """The detections selected by a mask, an index tensor or a slice."""
        return replace(self, boxes=self.boxes[index], scores=self.scores[index], labels=self.labels[index])

    def to(self, device: torch.device | str) -> Detections:
        """Copy the detections with their tensors to `device`."""
        return replace(self, boxes=self.boxes.to(device), scores=self.scores.to(device), labels=self.labels.to(device))

    def name(self, label: int) -> str:
        """Return the class name of `label`, or its number if names are unknown."""
        return self.names[label] if self.names is not None else str(label)

    def to_dict(self) -> list[DetectionRow]:
        """Convert to JSON-ready rows."""
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        return [{"box": box, "score": score, "label": label, "name": self.name(label)} for box, score, label in rows]

    def to_supervision(self) -> supervision.Detections:
        """Convert to `supervision.Detections`; needs the `supervision` package."""
        try:
            import supervision
        except ImportError as error:
            raise ImportError("Detections.to_supervision needs: pip install supervision") from error
        labels = self.labels.cpu().numpy()
        return supervision.Detections(
            xyxy=self.boxes.cpu().numpy(),
            confidence=self.scores.cpu().numpy(),
            class_id=labels,
            data={"class_name": [self.name(int(label)) for label in labels]},
        )


@dataclass
class Segmentation:
    """The class of every pixel of one image, in the frame of the original file.

    mask: uint8 [H, W], 0..C-1. scores: float32 [C, H, W], softmax probabilities, where they were asked for.
    names: class names by label, where known.
    """

    mask: Tensor
    scores: Tensor | None = None
    names: Sequence[str] | None = None

    def to(self, device: torch.device | str) -> Segmentation:
        """Copy the segmentation with its tensors to `device`."""
        scores = None if self.scores is None else self.scores.to(device)
        return replace(self, mask=self.mask.to(device), scores=scores)


class FeatureSpec(NamedTuple):
    """One feature map: its channels and the pixels of the input per step."""

    channels: int
    stride: int


class ProposalSource(Protocol):
    """What proposes: uint8 [H, W, 3] RGB to float32 xyxy [P, 4] in its pixels, best first."""

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]: ...

    def parameters(self) -> Mapping[str, object]:
        """All that the boxes of an image depend on, as plain data; "method" names what it is."""
        ...
