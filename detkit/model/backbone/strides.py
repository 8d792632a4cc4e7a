"""Check that a backbone has the maps that are asked of it."""

from __future__ import annotations

from collections.abc import Sequence

from detkit.core.errors import UserError


def check_strides(name: str, strides: Sequence[int], available: Sequence[int]) -> None:
    """Raise UserError if the backbone `name` has no map of one of `strides`; suggests some that would do."""
    missing = sorted(set(strides) - set(available))
    if not missing:
        return
    found = f"model.strides={list(strides)}: {name} has maps at {', '.join(map(str, available))}, none at {missing}"
    if list(strides) == [1]:
        raise UserError(
            f"{found}; the image itself is model/backbone=pixels, and the network that R-CNN runs on its regions is "
            "chosen by model/backbone@model.box_head.backbone=..."
        )
    some = ",".join(map(str, list(available)[-len(strides) :]))
    raise UserError(found + (f"; model.strides=[{some}] would do" if len(strides) <= len(available) else ""))
