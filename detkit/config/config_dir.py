"""Find the folder of configs."""

from __future__ import annotations

from pathlib import Path


def config_dir() -> Path:
    """The folder of configs: inside the installed package, or beside it in a clone."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
