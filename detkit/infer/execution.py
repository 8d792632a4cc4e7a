"""Define how a forward pass runs: device, precision, memory layout, runtime."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from detkit.core.errors import UserError
from detkit.core.structures import Batch

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Execution:
    """How a model is run.

    precision: fp32, bf16 or fp16 (CUDA only). channels_last: the memory layout of images and weights. runtime: of
    inference, as in `detkit.infer.runtime.apply_runtime`; a training knows no other than eager.
    Raises UserError for a precision that there is not, or not on this device.
    """

    device: torch.device
    precision: str = "fp32"
    channels_last: bool = True
    runtime: str = "eager"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"precision={self.precision}: choose one of {', '.join(PRECISIONS)}")
        if self.precision == "fp16" and self.device.type != "cuda":
            raise UserError(f"precision=fp16 needs a GPU, not device={self.device}; use bf16 or fp32")

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of what is computed."""
        return PRECISIONS[self.precision] or torch.float32

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass in this precision."""
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def place(self, batch: Batch) -> Batch:
        """Move a batch to the device, its images into the memory layout."""
        batch = batch.to(self.device)
        if self.channels_last:
            batch.images = batch.images.contiguous(memory_format=torch.channels_last)
        return batch

    def place_model(self, model: Model) -> Model:
        """Move a model, itself, to the device and into the memory layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        model.to(device=self.device, memory_format=layout)  # type: ignore[call-overload]  # which PyTorch has no stub for
        return model
