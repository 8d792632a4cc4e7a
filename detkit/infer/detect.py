"""Prepare a model for inference and run it over a split, each process its share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detkit.core.distributed import World
from detkit.core.interrupt import Agreed, Asked
from detkit.core.structures import Batch, Target
from detkit.data.annotations import Annotations
from detkit.data.canvas import CanvasLoader
from detkit.data.dataset import Difficult, Sample
from detkit.data.loader import build_loader, collate
from detkit.data.split import Split
from detkit.image.preprocess import Preprocess, fixed_canvas
from detkit.image.read import read_image
from detkit.infer.execution import Execution
from detkit.infer.runtime import apply_runtime
from detkit.model.detector import Detector
from detkit.model.layers.fold import fold_batch_norm
from detkit.task.base import AnyTask, task_of


def place_for_inference(detector: Detector, execution: Execution) -> Detector:
    """Prepare a detector for inference, in place: eval mode, batch norms fused, moved to its device, under its runtime.

    It cannot be trained afterwards. Returns the detector, for runtime=onnx another one.
    """
    detector.eval()
    if any(hasattr(module, "running_var") for module in detector.modules()):
        blank = blank_batch(detector)
        fold_batch_norm(detector, lambda: detector.predict(blank))
    detector.fuse_for_inference()
    return apply_runtime(execution.place_model(detector), execution.runtime)


def blank_batch(detector: Detector) -> Batch:
    """One black image, as small as the detector takes it, with one region where regions come from outside."""
    size = fixed_canvas(detector.preprocess) or (64, 64)
    image = torch.zeros(3, *size, dtype=torch.uint8)
    whole = torch.tensor([[0.0, 0.0, size[1], size[0]]])
    target = Target(image_id="", original_size=size, proposals=whole)
    batch = replace(collate([Sample(image, target)], detector.preprocess.pad_multiple), targets=None)
    return batch.to(detector.pixel_mean.device)


def evaluation_loader(
    task: AnyTask,
    split: Split,
    preprocess: Preprocess,
    world: World,
    *,
    batch_size: int,
    num_workers: int,
    difficult: Difficult = "ignore",
    read: Callable[..., NDArray[np.uint8]] = read_image,
) -> CanvasLoader:
    """The batches of this process's share of a split: every image once, broken ones as blanks, nothing augmented.

    A batch holds images of one canvas, so that none is padded for another's sake; with `batch_size` 1 they come in
    the order of the split. difficult, read: of the data set.
    """
    dataset = task.dataset(
        split.annotations,
        preprocess=preprocess,
        difficult=difficult,
        repair=split.repair,
        unreadable="blank",
        proposals=split.proposals,
        read=read,
    )
    loader = build_loader(
        dataset,
        batch_size=batch_size,
        shuffle=False,
        seed=0,
        num_workers=num_workers,
        rank=world.rank,
        world_size=world.size,
        one_canvas=True,
        pin_memory=world.device.type == "cuda",
    )
    return CanvasLoader(loader, preprocess.pad_multiple)


@torch.inference_mode()
def detect_split(
    detector: Detector,
    loader: CanvasLoader,
    world: World,
    execution: Execution,
    *,
    progress: Callable[[int], object] | None = None,
    asked: Asked | None = None,
) -> Any:
    """The results of the whole split on the main process, as the model's task gathers them; None on the others.

    detector: in eval mode. loader: of `evaluation_loader`. progress: called with the number of images done.
    asked: to end; where any process is, all stop after the batch and raise Agreed.
    """
    annotations: Annotations = loader.dataset.annotations
    index_of = {image_id: index for index, image_id in enumerate(annotations.image_ids)}
    done = 0
    with task_of(detector).accumulator(detector, annotations) as accumulator:
        for batch in loader:
            with execution.autocast():
                found = detector.predict(execution.place(batch))
            accumulator.add([index_of[image_id] for image_id in batch.image_ids], [item.to("cpu") for item in found])
            done += len(batch)
            if progress is not None:
                progress(done)
            if asked:
                break
    if asked is not None and (number := world.largest(asked.number)):
        raise Agreed(number)
    parts = world.gather(accumulator.part())
    return accumulator.merge(parts) if world.is_main else None
