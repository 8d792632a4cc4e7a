"""Format numbers for people, and select them in nested results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(value: float | None) -> str:
    """A fraction as 12.34; what could not be measured as a dash."""
    return "-" if value is None else f"{100 * value:.2f}"


def value_at(node: object, *keys: str) -> Any:
    """What stands in nested mappings at these keys; None where there is no such place."""
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
