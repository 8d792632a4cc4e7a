"""Evaluate a model on a split: results from every process, metrics on the main one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from detkit.core.distributed import World
from detkit.core.interrupt import Asked
from detkit.core.plain import Metrics
from detkit.data.annotations import Annotations
from detkit.data.canvas import CanvasLoader
from detkit.infer.detect import detect_split
from detkit.infer.execution import Execution
from detkit.model.detector import Detector
from detkit.task.base import task_of


def validate(
    detector: Detector,
    loader: CanvasLoader,
    world: World,
    execution: Execution,
    *,
    progress: Callable[[int], object] | None = None,
    asked: Asked | None = None,
) -> tuple[Metrics, Any]:
    """(metrics of the whole split, results): the metrics on every process, the results on the main one alone.

    loader: of `evaluation_loader`. The detector is put in eval mode for the time and back. asked: of `detect_split`.
    """
    annotations: Annotations = loader.dataset.annotations
    world.share_buffers(detector)
    with eval_mode(detector):
        results = detect_split(detector, loader, world, execution, progress=progress, asked=asked)
    metrics = task_of(detector).evaluate(results, annotations) if world.is_main else {}
    return world.broadcast(metrics), results


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards the mode the model was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
