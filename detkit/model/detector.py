"""The base of all detectors: two verbs on a batch, and the frame in which images are seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from detkit.config.instantiate import name_of
from detkit.core.errors import UserError
from detkit.core.structures import Batch, Detections, Target
from detkit.image.preprocess import Preprocess


class Detector(nn.Module):
    """Base of all detectors: `loss(batch)` to train, `predict(batch)` to use; `forward` is `loss`, for DDP.

    task: what its results are, by the dotted path of a `detkit.task.base.Task`.
    stages: dotted names of the submodules whose forward is timed as a stage.
    compilable: of the submodules whose computation does not depend on image content, in the order of the forward;
    `runtime=compiled` compiles them. runtime: how the detector runs. A constructor ends with `check_names`, so that
    every name of both is that of a submodule.
    preprocess: how files become canvases; `predict` maps its boxes back with it.
    mean, std: of the backbone's weights, RGB on the scale 0..255.
    """

    task: str = "detkit.task.detection.task.DetectionTask"
    stages: tuple[str, ...] = ()
    compilable: tuple[str, ...] = ()
    runtime: str = "eager"
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, *, num_classes: int, preprocess: Preprocess, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.preprocess = preprocess
        self.register_buffer("pixel_mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def check_names(self) -> None:
        """Raise UserError for the first name in `stages` or `compilable` that is no submodule, with those there are."""
        known = dict(self.named_modules(remove_duplicate=False))
        for attribute in ("stages", "compilable"):
            for name in getattr(self, attribute):
                if name not in known:
                    parent = name.rpartition(".")[0]
                    while parent not in known:
                        parent = parent.rpartition(".")[0]
                    who = f"{parent} ({name_of(known[parent])})" if parent else name_of(self)
                    there = ", ".join(child for child, _ in known[parent].named_children())
                    raise UserError(
                        f"{name_of(self)}.{attribute} names {name}, which is no submodule: {who} has {there or 'none'}"
                    )

    def fit_statistics(self, targets: Iterable[Target]) -> None:
        """Measure statistics of the training set that are needed before training; most detectors need none.

        targets: of every image, in the pixels of its file, with proposals where they come from outside.
        """

    def fuse_for_inference(self) -> None:
        """Fuse for inference, in place, what only training needs apart; the detector can no longer be trained."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        try:
            return self.loss(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # PyTorch's message for such a batch norm
                raise
            raise UserError(
                f"loader.batch_size: {len(batch)} image of {batch.images.shape[2]} x {batch.images.shape[3]} pixels "
                "has a map of "
                "one cell, and batch norm learns from two values or more: take two images or more, or a larger "
                "preprocess"
            ) from error

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss terms to be summed, scalars by name; needs `batch.targets`."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> list[Detections]:
        """Detect objects: of each image, in the pixels of its file. The caller sets eval mode."""
        raise NotImplementedError

    def normalize(self, batch: Batch) -> Tensor:
        """Normalise canvases for the backbone: float [B, 3, H, W], zero beyond the content of each image."""
        images = (batch.images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        for image, (height, width) in zip(images, batch.sizes, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return images
