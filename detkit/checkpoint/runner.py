"""What runs a graph that was written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from numpy.typing import NDArray


class Runner(Protocol):
    """What runs a written graph."""

    @property
    def inputs(self) -> Sequence[str]:
        """Their names, in order."""

    def __call__(self, feed: dict[str, NDArray[Any]], device: torch.device) -> Sequence[NDArray[Any]]:
        """The outputs of `Graph.forward`, in order, for inputs by name."""
