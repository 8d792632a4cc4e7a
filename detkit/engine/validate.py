"""A detector measured on a split: detections from every process, numbers on the main one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from detkit.data.annotations import Annotations
from detkit.data.canvas import CanvasLoader
from detkit.engine.detect import detect_split
from detkit.engine.distributed import World
from detkit.interrupt import Asked
from detkit.metric.evaluate import evaluate
from detkit.metric.records import GroundTruth, Predictions
from detkit.model.detector import Detector


def validate(
    detector: Detector,
    loader: CanvasLoader,
    world: World,
    *,
    precision: str,
    channels_last: bool,
    progress: Callable[[int], Any] | None = None,
    asked: Asked | None = None,
) -> tuple[dict[str, Any], Predictions]:
    """(metrics of the whole split, predictions): the metrics on every process, all the predictions on the main one.

    loader: of `evaluation_loader`. The detector is put in eval mode for the time and back. asked: of `detect_split`.
    """
    annotations: Annotations = loader.dataset.annotations
    world.share_buffers(detector)
    with eval_mode(detector):
        predictions = detect_split(
            detector, loader, world, precision=precision, channels_last=channels_last, progress=progress, asked=asked
        )
    metrics = evaluate(predictions, ground_truth_of(annotations), annotations.classes) if world.is_main else {}
    return world.broadcast(metrics), predictions


def ground_truth_of(annotations: Annotations) -> GroundTruth:
    """The objects to be found: as annotated, without boxes that have no inside, which nothing could match."""
    truth = GroundTruth.from_annotations(annotations)
    x1, y1, x2, y2 = truth.boxes.T
    keep = (x2 > x1) & (y2 > y1)
    columns = ("image", "boxes", "labels", "difficult", "crowd", "area")
    return replace(truth, **{name: getattr(truth, name)[keep] for name in columns})


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards the mode the model was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
