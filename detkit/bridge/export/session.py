"""An exported ONNX file as a detector, run by ONNX Runtime: it has no code of the model, only its graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detkit.bridge.export.graph import Graph
from detkit.bridge.export.metadata import KEY, read_content
from detkit.bridge.export.write import INSTALL, write_onnx
from detkit.config import build_preprocess
from detkit.data.preprocess import Preprocess
from detkit.errors import UserError
from detkit.model.detector import Detector
from detkit.types import Batch, Detections

CPU = torch.device("cpu")


def read_onnx(path: Path) -> dict[str, Any]:
    """What `load_checkpoint` gives for a `.pt`, of an exported `.onnx`; `onnx` in it is an `OnnxGraph`.

    Raises UserError where ONNX Runtime is not installed, or the file is not one that `detkit export` wrote.
    """
    graph = OnnxGraph(path)
    return {**read_content(graph.metadata.get(KEY), path), "onnx": graph}


def build_onnx(content: Mapping[str, Any]) -> OnnxDetector:
    """The detector of what `read_onnx` has read. Raises UserError for a `.pt` that only looks like it."""
    if not isinstance(content["onnx"], OnnxGraph):
        raise UserError("the checkpoint has an entry 'onnx', which only an exported file has")
    preprocess = build_preprocess(content["preprocess"])
    return OnnxDetector(content["onnx"], num_classes=len(content["classes"]), preprocess=preprocess)


def as_onnx(detector: Detector) -> OnnxDetector:
    """A detector, in eval mode and folded, as ONNX Runtime runs it on the device where it is; it is not changed.

    Raises UserError where it has a part that ONNX has not, or the exporter or ONNX Runtime is not installed.
    """
    device = detector.pixel_mean.device
    with TemporaryDirectory() as folder:
        path = Path(folder) / "detector.onnx"
        write_onnx(Graph(deepcopy(detector).cpu()), path, "")
        graph = OnnxGraph(path, device)
    found = OnnxDetector(graph, num_classes=detector.num_classes, preprocess=detector.preprocess)
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

    def forward(self, feed: dict[str, NDArray[Any]], device: torch.device) -> list[NDArray[Any]]:
        """The outputs, in order, for inputs by name."""
        if device != self.device:
            self.session, self.device = _open(self.path, device), device
        return self.session.run(None, feed)


class OnnxDetector(Detector):
    """`predict` of a detector whose graph ends in detections (see `detkit.bridge.export.graph`)."""

    stages = ("graph",)

    def __init__(self, graph: OnnxGraph, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__(num_classes=num_classes, preprocess=preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.graph = graph

    def predict(self, batch: Batch) -> list[Detections]:
        device = self.pixel_mean.device
        feed = {
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


def _open(path: Path, device: torch.device) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: an ONNX file needs ONNX Runtime: {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    # between two runs its threads would keep the cores busy, and the reading of images waits for them
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = "CPUExecutionProvider" if device.type == "cpu" else f"{device.type.upper()}ExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise UserError(
            f"ONNX Runtime cannot run on {device} here (it has {', '.join(onnxruntime.get_available_providers())}): "
            "use device=cpu, or install onnxruntime-gpu"
        )
    providers: list[Any] = [(provider, {} if device.index is None else {"device_id": device.index})]
    if device.type != "cpu":
        providers.append("CPUExecutionProvider")  # what the device has no operator for
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions have no common class of their own
        raise UserError(f"{path} is no ONNX file that can be run: {str(error).splitlines()[0]}") from error
