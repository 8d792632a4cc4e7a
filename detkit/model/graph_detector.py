"""A graph that ends in detections, as a detector: `eval`, `predict` and `detkit.load` use it as any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detkit.core.errors import UserError
from detkit.core.structures import Batch, Detections
from detkit.image.preprocess import Preprocess
from detkit.model.detector import Detector


class Runner(Protocol):
    """What runs a written graph."""

    @property
    def inputs(self) -> Sequence[str]:
        """Their names, in order."""

    def __call__(self, feed: dict[str, NDArray[np.generic]], device: torch.device) -> Sequence[NDArray[np.generic]]:
        """The outputs of `Graph.forward`, in order, for inputs by name."""


class GraphDetector(Detector):
    """`predict` by a graph that was written (see `detkit.export.graph`); it has no code of the model."""

    stages = ("graph",)

    def __init__(self, graph: Runner, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__(num_classes=num_classes, preprocess=preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.graph = graph

    def predict(self, batch: Batch) -> list[Detections]:
        device = self.pixel_mean.device
        if torch.is_autocast_enabled(device.type):
            raise UserError("a graph computes in float32: leave precision=fp32, or choose another runtime")
        feed: dict[str, NDArray[np.generic]] = {
            "images": batch.images.contiguous().cpu().numpy(),
            "sizes": np.asarray(batch.sizes, np.int64),
            "original_sizes": np.asarray(batch.original_sizes, np.int64),
        }
        if "proposals" in self.graph.inputs:
            if batch.proposals is None:
                raise UserError("this detector takes its regions from outside: choose proposal=selective_search_fast")
            feed["proposals"] = stack_proposals(batch.proposals).cpu().numpy()
        boxes, scores, labels, counts = self.graph(feed, device)
        columns = [torch.from_numpy(column).to(device) for column in (boxes, scores, labels)]
        return [
            Detections(*(column[:count] for column in image))
            for *image, count in zip(*columns, counts.tolist(), strict=True)
        ]


def stack_proposals(proposals: Sequence[Tensor]) -> Tensor:
    """[B, P, 4] of the regions of each image, filled up with zeros, one at least."""
    most = max(1, *(len(boxes) for boxes in proposals))
    return torch.stack([nn.functional.pad(boxes, (0, 0, 0, most - len(boxes))) for boxes in proposals])
