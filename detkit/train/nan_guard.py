"""Abort when a loss or gradient is NaN or infinite, before the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from detkit.core.errors import UserError
from detkit.core.structures import Batch


class TrainingDiverged(UserError):
    """A loss or a gradient became NaN or infinite. The message names the term, the step and the images."""


def first_bad(values: Mapping[str, float]) -> str | None:
    """The name of the first value that is not finite, or None."""
    return next((name for name, value in values.items() if not math.isfinite(value)), None)


def diverged(step: int, values: Mapping[str, float], batches: Sequence[Batch], path: Path) -> TrainingDiverged:
    """Save the batches of the step to `path` and return the error to raise: what happened and what to try.

    values: loss terms and gradient norm of the step. The weights have not been changed by this step.
    """
    torch.save([batch_to_plain(batch) for batch in batches], path)
    shown = ", ".join(f"{name}={value:.4g}" for name, value in values.items())
    images = ", ".join(image_id for batch in batches for image_id in batch.image_ids)
    return TrainingDiverged(
        f"step {step}: {first_bad(values) or 'a value on another process'} is not finite ({shown})\n"
        f"images: {images}\nthe batch is in {path}; checkpoints/last.pt, if written, is from before\n"
        "try a lower optimizer.lr, more schedule.warmup, trainer.clip_norm=10, or trainer.precision=fp32"
    )


def batch_to_plain(batch: Batch) -> dict[str, object]:
    """A batch as tensors and plain data on the CPU, loadable with `weights_only=True`."""
    here = batch.to("cpu", non_blocking=False)
    return {
        "images": here.images,
        "sizes": here.sizes,
        "original_sizes": here.original_sizes,
        "image_ids": here.image_ids,
        "targets": None if here.targets is None else [dict(target) for target in here.targets],
    }
