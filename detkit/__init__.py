"""detkit: the classic object detectors under one config, one training loop and one evaluator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detkit.core import __version__

if TYPE_CHECKING:
    from detkit.infer.loaded_detector import LoadedDetector, load

__all__ = ["LoadedDetector", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `import detkit` and the command line's own answers should not wait for it.
    if name in ("LoadedDetector", "load"):
        from detkit.infer import loaded_detector

        return getattr(loaded_detector, name)
    raise AttributeError(f"module 'detkit' has no attribute {name!r}")
