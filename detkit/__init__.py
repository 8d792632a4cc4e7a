"""detkit: the classic object detectors under one config, one training loop and one evaluator."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from detkit.core import __version__
from detkit.core.errors import UserError

if TYPE_CHECKING:
    from detkit.core.structures import Detections
    from detkit.infer.loaded_detector import LoadedDetector, load

__all__ = ["Detections", "LoadedDetector", "UserError", "__version__", "load"]

# What imports torch, which takes seconds: `import detkit` and the command line's own answers should not wait for it.
LATER = {
    "Detections": "detkit.core.structures",
    "LoadedDetector": "detkit.infer.loaded_detector",
    "load": "detkit.infer.loaded_detector",
}

logging.getLogger("detkit").addHandler(logging.NullHandler())  # a program that imports it is told what it asks for


def __getattr__(name: str) -> object:
    if name in LATER:
        return getattr(import_module(LATER[name]), name)
    raise AttributeError(f"module 'detkit' has no attribute {name!r}")
