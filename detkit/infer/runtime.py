"""Apply a runtime: eager, TorchInductor for the compilable parts, or ONNX Runtime for all."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch._inductor.config as inductor
import torch.fx.experimental._config as shapes
from timm.layers import Conv2dSame
from torch import nn

from detkit.core.errors import UserError
from detkit.image.preprocess import fixed_canvas
from detkit.model.detector import Detector
from detkit.model.layers.padding import LARGEST_STRIDE, has_whole_strides, settle_padding

RUNTIMES = ("eager", "compiled", "onnx")
MOST_SHAPES = 64  # compiled for one part; further ones run eagerly
Forward = Callable[..., Any]


def apply_runtime(detector: Detector, runtime: str) -> Detector:
    """The detector, in eval mode and on its device, made to run as `runtime` says; itself, or for onnx another one.

    compiled: every part of `detector.compilable` through TorchInductor, its weights as constants, packed for the
    machine, and its activations fused into the convolutions before them. The first image waits for the compiler; where
    canvases differ in size, one graph serves them all. Names, hooks and weights stay, results agree to rounding.
    onnx: what `detkit export` would write, run by ONNX Runtime in place of the detector, in float32.
    Raises UserError for another word, where nothing here compiles, and for parts that ONNX has not.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"runtime={runtime}: choose one of {', '.join(RUNTIMES)}")
    if runtime == "compiled":
        device = detector.pixel_mean.device
        check_compiler(device)
        varies = fixed_canvas(detector.preprocess) is None
        if has_whole_strides(detector.preprocess):
            settle_padding(detector)
        elif varies and any(isinstance(module, Conv2dSame) for module in detector.modules()):
            raise UserError(
                "runtime=compiled takes this backbone, which pads as TensorFlow does, on whole strides only: "
                f"set preprocess.pad_multiple={LARGEST_STRIDE}, or choose runtime=eager"
            )
        modules = dict(detector.named_modules())
        found = [modules[name] for name in detector.compilable if name in modules]
        for index, part in enumerate(part for part in found if not isinstance(part, nn.Identity)):
            part.forward = compiled(part.forward, device, dynamic=varies, first=index == 0)
    if runtime == "onnx" and not hasattr(detector, "graph"):  # a detector that was read from an .onnx is one already
        from detkit.export.onnx_runtime import as_onnx

        detector = as_onnx(detector)
    detector.runtime = runtime
    return detector


def compiled(forward: Forward, device: torch.device, *, dynamic: bool, first: bool) -> Forward:
    """`forward`, compiled when it is first called without gradients.

    dynamic: sizes differ from call to call from the beginning; otherwise the first size is compiled for itself, and
    what changes later is left open from then on. first: of the parts of a detector, in the order of the forward.
    """
    graphs = device.type == "cuda" and not dynamic  # CUDA graphs are recorded anew for every size
    run = torch.compile(forward, dynamic=True if dynamic else None, mode="reduce-overhead" if graphs else None)

    def call(*inputs: Any) -> Any:
        if torch.is_grad_enabled():
            return forward(*inputs)
        with ExitStack() as settings:
            settings.enter_context(torch._dynamo.config.patch(recompile_limit=MOST_SHAPES))
            # a square canvas is not one side twice
            settings.enter_context(shapes.patch(use_duck_shape=False))  # type: ignore[attr-defined]
            if device.type == "cpu":
                # weights are in channels_last as it is; the pass that makes sure of it fails on open sizes
                settings.enter_context(inductor.patch(freezing=True, layout_optimization=False))
            if graphs and first:
                torch.compiler.cudagraph_mark_step_begin()  # what the last image left in the graphs is read
            return run(*inputs)

    return call


def check_compiler(device: torch.device) -> None:
    """Raise UserError where what TorchInductor needs is missing: a C++ compiler for CPUs, Triton for GPUs."""
    if device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "cl")):
        raise UserError("runtime=compiled needs a C++ compiler (g++ or clang++) for the CPU; or choose runtime=eager")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError("runtime=compiled needs the package triton for the GPU; or choose runtime=eager")
