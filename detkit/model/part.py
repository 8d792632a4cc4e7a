"""Parts of a detector before they are put together: callables that wait for the shapes of the part before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detkit.errors import UserError

Part = Callable[..., Any]  # `_partial_: true` in the config


def reject_strings(**parts: Any) -> None:
    """Raise UserError, with the right spelling, for a part that is a string instead of a module or a callable."""
    for name, part in parts.items():
        if isinstance(part, str):
            raise UserError(
                f"model.{name}={part} sets the value of a key; to choose the part write model/{name}={part}"
            )
