"""Count the repairs of a data set during training, once per image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from detkit.core.structures import Batch


class FaultLog:
    """The kinds of fault by image, from target["faults"]."""

    def __init__(self, seen: Iterable[tuple[str, str]] = ()) -> None:
        self.seen: set[tuple[str, str]] = set(seen)  # (image id, kind)

    def add(self, batches: Sequence[Batch]) -> None:
        """Take in what was repaired in these batches."""
        for batch in batches:
            for target in batch.targets or ():
                self.seen.update((image_id, kind) for kind, image_id in target.get("faults", ()))

    @staticmethod
    def union(parts: Sequence[FaultLog]) -> FaultLog:
        """The faults of several processes."""
        return FaultLog(item for part in parts for item in part.seen)

    def describe(self) -> str:
        """One line for each kind with its number of images and the first of them; empty if there was none."""
        first: dict[str, str] = {}
        for image_id, kind in sorted(self.seen):
            first.setdefault(kind, image_id)
        return "\n".join(
            f"repaired while training: {kind} in {count} images, as in {first[kind]}"
            for kind, count in Counter(kind for _, kind in self.seen).most_common()
        )
