"""Write a detector's graph as a `torch.export` program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detkit.core.atomic_file import atomic_file
from detkit.export.batched_nms import survivors_in_torch
from detkit.export.graph import Graph
from detkit.export.metadata import KEY
from detkit.export.onnx_writer import INPUTS, example_inputs, quiet


def write_program(graph: Graph, path: Path, metadata: str) -> None:
    """Write `graph` as a program of PyTorch's and torchvision's operators, with `metadata` as the extra file `detkit`.

    Any number of images and, where images keep their shape, canvases of any size.
    """
    inputs, shapes = example_inputs(graph)
    with quiet():
        program = torch.export.export(graph, inputs, dynamic_shapes=shapes, strict=False)
        program = program.run_decompositions({torch.ops.detkit.survivors.default: survivors_in_torch})
        with atomic_file(path) as unfinished:
            torch.export.save(program, unfinished, extra_files={KEY: metadata})


class Program:
    """A program from a file that this process has just written: reading one may run code that is in it."""

    def __init__(self, path: Path) -> None:
        with quiet():
            self.run = torch.export.load(path).module()
        self.inputs: Sequence[str] = INPUTS[: len(self.run.graph.find_nodes(op="placeholder"))]

    def __call__(self, feed: Mapping[str, NDArray[np.generic]], device: torch.device) -> list[NDArray[np.generic]]:
        """The outputs, in order, for inputs by name; on the device that the program was written for."""
        found = self.run(*(torch.from_numpy(feed[name]) for name in self.inputs))
        return [column.numpy() for column in found]
