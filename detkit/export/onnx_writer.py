"""Write a detector's graph, with its metadata, to an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from detkit.core.atomic_file import atomic_file
from detkit.core.errors import UserError
from detkit.export.batched_nms import survivors_in_onnx
from detkit.export.graph import OUTPUTS, Graph
from detkit.export.metadata import KEY
from detkit.image.preprocess import fixed_canvas

INSTALL = 'pip install "detkit-vision[onnx]"'
INPUTS = ("images", "sizes", "original_sizes", "proposals")
EXAMPLE_SIZE = (416, 544)  # of a canvas that may be of any size
OPSETS = (18, 20)  # of ONNX, at which detectors were written and found the same
LONGEST = 8192  # side of a canvas, in pixels

OpenSizes: TypeAlias = dict[int, object]  # which dimensions of an input may change, as torch.export has it


def write_onnx(graph: Graph, path: Path, metadata: str, opset: int | None = None) -> None:
    """Write `graph` as ONNX: any number of images and, where images keep their shape, canvases of any size.

    opset: the version of the operators, one of OPSETS; None is that of the exporter. Raises UserError for another one,
    where the exporter is not installed, and where the detector has a part that ONNX has no operator for.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"format=onnx needs the exporter of PyTorch: {INSTALL}") from error
    if opset is not None and opset not in OPSETS:
        raise UserError(f"opset={opset}: choose one of {', '.join(map(str, OPSETS))}")
    inputs, shapes = example_inputs(graph)
    with quiet():
        program = torch.onnx.export(
            graph,
            inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=INPUTS[: len(inputs)],
            output_names=OUTPUTS,
            custom_translation_table={torch.ops.detkit.survivors.default: survivors_in_onnx},
            opset_version=opset,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[KEY] = metadata
    with atomic_file(path) as unfinished:
        program.save(unfinished, external_data=False)


def example_inputs(graph: Graph) -> tuple[tuple[Tensor, ...], tuple[OpenSizes, ...]]:
    """Inputs to trace the graph with, and which dimensions of them may change."""
    canvas = fixed_canvas(graph.detector.preprocess)
    step = graph.detector.preprocess.pad_multiple
    height, width = canvas or (-(-side // step) * step for side in EXAMPLE_SIZE)
    sizes = torch.tensor([[height, width], [height, width - 1]])
    inputs = [torch.zeros(2, 3, height, width, dtype=torch.uint8), sizes, sizes + 7]
    any_size = torch.export.Dim.DYNAMIC
    shapes: list[OpenSizes] = [{0: any_size}, {0: any_size}, {0: any_size}]
    if canvas is None:  # known multiples keep the arithmetic of paddings simple; without, tracing takes minutes
        shapes[0] |= {2: _sides("height", step), 3: _sides("width", step)}
    if graph.takes_regions:
        inputs.append(torch.zeros(2, 5, 4))
        shapes.append({0: any_size, 1: any_size})
    return tuple(inputs), tuple(shapes)


def _sides(name: str, step: int) -> object:
    """Any multiple of `step`."""
    return torch.export.Dim.DYNAMIC if step == 1 else step * torch.export.Dim(name, min=2, max=LONGEST // step)


@contextmanager
def quiet() -> Iterator[None]:
    """What exporters tell of their own work is nothing that a user could act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
