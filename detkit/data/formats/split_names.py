"""List the names that tools give to the same split."""

from __future__ import annotations

SAME = (("val", "valid", "validation"), ("train", "training"), ("test", "testing"))


def names_of_split(split: str) -> list[str]:
    """`split`, and the other names of the same split."""
    return [split, *(other for same in SAME if split in same for other in same if other != split)]
