"""Numbers as people read them."""

from __future__ import annotations


def percent(value: float | None) -> str:
    """A fraction as 12.34; what could not be measured as a dash."""
    return "-" if value is None else f"{100 * value:.2f}"
