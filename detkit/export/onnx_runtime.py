"""Run exported ONNX files by ONNX Runtime."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detkit.checkpoint.content import Checkpoint
from detkit.core.errors import UserError
from detkit.export.graph import Graph
from detkit.export.metadata import KEY, read_content
from detkit.export.onnx_writer import INSTALL, write_onnx
from detkit.model.detector import Detector
from detkit.model.graph_detector import GraphDetector

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Arrays: TypeAlias = Mapping[str, NDArray[np.generic]]  # the inputs of a graph, by name

CPU = torch.device("cpu")


def read_onnx(path: Path) -> Checkpoint:
    """Read the checkpoint that an exported `.onnx` is; its `graph` is an `OnnxGraph`.

    Raises UserError where ONNX Runtime is not installed, or the file is not one that `detkit export` wrote.
    """
    graph = OnnxGraph(path)
    return replace(read_content(graph.metadata.get(KEY), path), graph=graph)


def as_onnx(detector: Detector) -> GraphDetector:
    """A detector, in eval mode and folded, as ONNX Runtime runs it on the device where it is; it is not changed.

    Raises UserError where it has a part that ONNX has not, or the exporter or ONNX Runtime is not installed.
    """
    device = detector.pixel_mean.device
    with TemporaryDirectory() as folder:
        path = Path(folder) / "detector.onnx"
        write_onnx(Graph(deepcopy(detector).cpu()), path, "")
        graph = OnnxGraph(path, device)
    found = GraphDetector(graph, num_classes=detector.num_classes, preprocess=detector.preprocess)
    return found.eval().to(device)


class OnnxGraph(nn.Module):
    """The graph in a file, on a device; on another, it is read anew when it is first run there."""

    def __init__(self, path: Path, device: torch.device = CPU) -> None:
        super().__init__()
        self.path = path
        self.session = _open(path, device)
        self.device = device
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.inputs = [node.name for node in self.session.get_inputs()]

    def forward(self, feed: Arrays, device: torch.device) -> list[NDArray[np.generic]]:
        """The outputs, in order, for inputs by name."""
        if device != self.device:
            self.session, self.device = _open(self.path, device), device
        outputs: list[NDArray[np.generic]] = self.session.run(None, feed)
        return outputs

    def operator_ms(self, feed: Arrays, repeats: int) -> dict[str, float]:
        """Milliseconds of a run by kind of operator, the longest first: the mean of `repeats` after a warm-up."""
        with TemporaryDirectory() as folder:
            session = _open(self.path, self.device, profile_into=folder)
            for _ in range(1 + repeats):
                session.run(None, feed)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        kernels = [event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]
        total: Counter[str] = Counter()
        for event in kernels[len(kernels) // (1 + repeats) :]:
            total[event["args"]["op_name"]] += event["dur"] / 1000 / repeats
        return dict(total.most_common())


def _open(path: Path, device: torch.device, profile_into: str | None = None) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: an ONNX file needs ONNX Runtime: {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    if profile_into is not None:
        options.enable_profiling = True
        options.profile_file_prefix = f"{profile_into}/profile"
    # between two runs its threads would keep the cores busy, and the reading of images waits for them
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = "CPUExecutionProvider" if device.type == "cpu" else f"{device.type.upper()}ExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise UserError(
            f"ONNX Runtime cannot run on {device} here (it has {', '.join(onnxruntime.get_available_providers())}): "
            "use device=cpu, or install onnxruntime-gpu"
        )
    providers: list[str | tuple[str, dict[str, int]]] = [
        (provider, {} if device.index is None else {"device_id": device.index})
    ]
    if device.type != "cpu":
        providers.append("CPUExecutionProvider")  # what the device has no operator for
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions have no common class of their own
        raise UserError(f"{path} is no ONNX file that can be run: {str(error).splitlines()[0]}") from error
