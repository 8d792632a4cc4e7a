"""The parts of a detector, by what the others ask of them: any module with these members takes the place of ours.

Nothing inherits from these protocols. mypy compares a part's `forward` with that of its protocol; `__call__` is there
because a part is called by it, and because PyTorch types the call of every module as Any.

Symbols: B images of a batch, R regions of all its images, P regions of one image, C classes, k cells along the side of
a region, D features of a region. Frames: the canvas is the padded image that the network sees, in pixels; every box is
float32 xyxy on it, 0-based and half-open. Maps are float [B, channels, H, W], finest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Tensor

from detkit.core.structures import Batch, Detections, FeatureSpec, Target
from detkit.image.preprocess import Preprocess

T = TypeVar("T")

Part: TypeAlias = Callable[..., T]  # a part that waits for the shapes of the part before it (`_partial_: true`)


class Backbone(Protocol):
    """Turn images into feature maps.

    features: channels and stride of each map that it returns. mean, std: of the images that its weights were trained
    on, RGB on 0..255; None where it has no weights, and hands on the image itself.
    """

    features: list[FeatureSpec]

    @property
    def mean(self) -> Sequence[float] | None: ...

    @property
    def std(self) -> Sequence[float] | None: ...

    def forward(self, images: Tensor, /) -> list[Tensor]:
        """Compute maps of images float [B, 3, H, W], normalised by `mean` and `std`, zero beyond their content."""

    def __call__(self, images: Tensor, /) -> list[Tensor]: ...


class Neck(Protocol):
    """Turn feature maps into feature maps, such as a pyramid; features: channels and stride of each that it returns."""

    features: list[FeatureSpec]

    def forward(self, features: list[Tensor], /) -> list[Tensor]:
        """Compute maps from those of the backbone."""

    def __call__(self, features: list[Tensor], /) -> list[Tensor]: ...


class Proposer(Protocol):
    """Propose class-agnostic regions of each image.

    compilable (where it has it): names of its submodules whose computation does not depend on image content.
    """

    def forward(self, features: list[Tensor], batch: Batch, /) -> list[Tensor]:
        """Propose regions of each image, best first: float32 [P, 4] on the canvas."""

    def loss(self, features: list[Tensor], batch: Batch, /) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return proposals as in `forward`, without gradient, and scalar losses by name; needs `batch.targets`."""

    def __call__(self, features: list[Tensor], batch: Batch, /) -> list[Tensor]: ...


class RoIPooler(Protocol):
    """Read a fixed-size map of each region; size: k."""

    size: int

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor], /) -> Tensor:
        """Pool boxes, of each image float32 [P, 4] on the canvas -> [R, channels, k, k], images in order."""

    def __call__(self, features: Sequence[Tensor], boxes: Sequence[Tensor], /) -> Tensor: ...


class BoxHead(Protocol):
    """Turn pooled regions into feature vectors, or, in R-FCN, the map of an image into another; out_features: D."""

    out_features: int

    def forward(self, pooled: Tensor, /) -> Tensor:
        """Compute features [R, channels, k, k] -> [R, D]; R-FCN's: [B, channels, H, W] -> [B, D, H, W]."""

    def __call__(self, pooled: Tensor, /) -> Tensor: ...


class RegionNetwork(BoxHead, Protocol):
    """R-CNN's box head: a whole network run on the crop of each region, [R, 3, S, S] -> [R, D].

    mean, std: of the images that its weights were trained on, RGB on 0..255. map_channels: of its last map.
    """

    map_channels: int

    @property
    def mean(self) -> Sequence[float]: ...

    @property
    def std(self) -> Sequence[float]: ...


class Predictor(Protocol):
    """Predict class scores and box offsets of each region; num_boxes: C, or 1 where classes share a box."""

    num_boxes: int

    def forward(self, features: Tensor, /) -> tuple[Tensor, Tensor]:
        """Predict logits float32 [R, C + 1] and offsets float32 [R, num_boxes, 4] (`detkit.ops.coder`) from [R, D]."""

    def scores(self, logits: Tensor, /) -> Tensor:
        """Return the score of each class in 0..1: [R, C]."""

    def losses(self, logits: Tensor, deltas: Tensor, labels: Tensor, offsets: Tensor, /) -> dict[str, Tensor]:
        """Compute losses by name, float32 [R] each.

        labels: int64 [R], 0..C-1, or -1 for background. offsets: float32 [P, 4], the targets of the P regions that have
        a class, in order.
        """

    def __call__(self, features: Tensor, /) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class ScalablePredictor(Protocol):
    """A predictor whose last layer can absorb the mean and standard deviation of the offsets."""

    def scale_deltas(self, scale: Tensor, shift: Tensor, /) -> None:
        """Change the weights in place so that offsets become offsets * scale + shift, both [num_boxes, 4]."""


class VotingPredictor(Predictor, Protocol):
    """R-FCN's: score maps of the whole image, [B, D, H, W] -> [B, (C + 1) k k, H, W], [B, 4 num_boxes k k, H, W]."""

    size: int

    def vote(self, logits: Tensor, deltas: Tensor, /) -> tuple[Tensor, Tensor]:
        """Average pooled maps [R, C + 1, k, k] and [R, 4 num_boxes, k, k]: logits and offsets as of a `Predictor`."""


class RoIHead(Protocol):
    """Classify and refine proposals.

    timed, compilable (where it has them): names of its submodules that are timed as stages within it, and of those
    whose computation does not depend on image content.
    """

    def forward(self, features: list[Tensor], proposals: list[Tensor], /) -> tuple[list[Tensor], list[Tensor]]:
        """Return, per image, boxes float32 [P, C or 1, 4] on the canvas and scores [P, C]."""

    def loss(self, features: list[Tensor], proposals: list[Tensor], batch: Batch, /) -> dict[str, Tensor]:
        """Compute scalar losses by name; needs `batch.targets`."""

    def fit_statistics(self, targets: Iterable[Target], /) -> None:
        """Measure statistics of the training set that are needed before training; see `Detector.fit_statistics`."""

    def fuse_for_inference(self) -> None:
        """Fuse for inference, in place, what only training needs apart; see `Detector.fuse_for_inference`."""

    def __call__(self, features: list[Tensor], proposals: list[Tensor], /) -> tuple[list[Tensor], list[Tensor]]: ...


class DenseHead(Protocol):
    """Classify and place objects at every cell of the maps."""

    def forward(self, features: list[Tensor], batch: Batch, /) -> tuple[Tensor, Tensor]:
        """Return boxes float32 [B, N, C or 1, 4] on the canvas, scores float32 [B, N, C], of N candidates per image."""

    def loss(self, features: list[Tensor], batch: Batch, /) -> dict[str, Tensor]:
        """Compute scalar losses by name; needs `batch.targets`."""

    def __call__(self, features: list[Tensor], batch: Batch, /) -> tuple[Tensor, Tensor]: ...


class Postprocess(Protocol):
    """Turn scored boxes on the canvas into detections in the pixels of the file."""

    def forward(
        self, boxes: Iterable[Tensor], scores: Iterable[Tensor], batch: Batch, preprocess: Preprocess, /
    ) -> list[Detections]:
        """Return detections; per image: boxes float [R, C or 1, 4] on the canvas, scores float [R, C]."""

    def __call__(
        self, boxes: Iterable[Tensor], scores: Iterable[Tensor], batch: Batch, preprocess: Preprocess, /
    ) -> list[Detections]: ...
