"""detkit: the classic object detectors under one config, one training loop and one evaluator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detkit.api import LoadedDetector, load

__version__ = "0.1.0"
__all__ = ["LoadedDetector", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `import detkit` and the command line's own answers should not wait for it.
    if name in ("LoadedDetector", "load"):
        from detkit import api

        return getattr(api, name)
    raise AttributeError(f"module 'detkit' has no attribute {name!r}")
