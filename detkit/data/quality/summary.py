"""Summarise a split: counts per class, box sizes, image sizes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

import numpy as np

from detkit.core.structures import Size
from detkit.data.annotations import Annotations

SIDES = (0, 8, 16, 32, 64, 96, 128, 256, 512)  # pixels, square root of box area; 32 and 96 divide COCO's S, M and L
BAR = 40  # characters
COMMON_SIZES = 5


class SummaryJson(TypedDict):
    """A `Summary` as JSON; box_sides: by the lower end of each range of SIDES, image_sizes: by "WIDTHxHEIGHT"."""

    images: int
    images_without_objects: int
    objects: int
    difficult: int
    classes: dict[str, dict[str, int]]
    box_sides: dict[str, int]
    image_sizes: dict[str, int]


@dataclass
class Summary:
    """The numbers of one split.

    classes: by name, the numbers of its "objects", "images" and "difficult" objects.
    box_sides: how many boxes have a square root of area in each range of SIDES.
    """

    images: int
    without_objects: int
    objects: int
    difficult: int
    classes: dict[str, dict[str, int]]
    box_sides: list[int]
    image_sizes: Counter[Size]

    def to_dict(self) -> SummaryJson:
        """JSON-ready."""
        return {
            "images": self.images,
            "images_without_objects": self.without_objects,
            "objects": self.objects,
            "difficult": self.difficult,
            "classes": self.classes,
            "box_sides": dict(zip(map(str, SIDES), self.box_sides, strict=True)),
            "image_sizes": {f"{width}x{height}": count for (height, width), count in self.image_sizes.most_common()},
        }


def summarise(annotations: Annotations, sizes: Sequence[Size]) -> Summary:
    """Count one split; `sizes` are the true (H, W) of its images. Faulty boxes are counted as they are."""
    images = annotations.image_of_object()
    classes = {}
    for label, name in enumerate(annotations.classes):
        mine = annotations.labels == label
        classes[name] = {
            "objects": int(mine.sum()),
            "images": len(np.unique(images[mine])),
            "difficult": int(annotations.difficult[mine].sum()),
        }
    sides = np.nan_to_num(annotations.boxes[:, 2:] - annotations.boxes[:, :2], posinf=0, neginf=0).clip(0)
    bins = np.digitize(np.sqrt(sides.astype(np.float64).prod(axis=1)), SIDES) - 1
    return Summary(
        images=len(annotations),
        without_objects=int((np.diff(annotations.offsets) == 0).sum()),
        objects=len(annotations.labels),
        difficult=int(annotations.difficult.sum()),
        classes=classes,
        box_sides=np.bincount(bins, minlength=len(SIDES)).tolist(),
        image_sizes=Counter(sizes),
    )


def summary_text(summaries: Mapping[str, Summary]) -> str:
    """Tables of all splits side by side."""
    return "\n\n".join(
        [_totals(summaries), _per_class(summaries), _histogram(summaries), _sizes(list(summaries.values()))]
    )


def _totals(summaries: Mapping[str, Summary]) -> str:
    rows = [["", *summaries]]
    for title, key in (("images", "images"), ("without objects", "without_objects"), ("objects", "objects")):
        rows.append([title, *(str(getattr(summary, key)) for summary in summaries.values())])
    return _table(rows)


def _per_class(summaries: Mapping[str, Summary]) -> str:
    rows = [["objects / images / difficult", *summaries]]
    for name in dict.fromkeys(name for summary in summaries.values() for name in summary.classes):
        counts = [summary.classes.get(name, {}) for summary in summaries.values()]
        rows.append([name, *(" / ".join(str(c.get(k, 0)) for k in ("objects", "images", "difficult")) for c in counts)])
    return _table(rows)


def _histogram(summaries: Mapping[str, Summary]) -> str:
    totals = np.sum([summary.box_sides for summary in summaries.values()], axis=0).tolist()
    names = [f"{low} to {high}" for low, high in pairwise(SIDES)] + [f"{SIDES[-1]} and more"]
    table = _table(
        [["box side (px)", "boxes"], *([name, str(total)] for name, total in zip(names, totals, strict=True))]
    )
    bars = ["", *("#" * math.ceil(BAR * total / max(1, *totals)) for total in totals)]
    return "\n".join(f"{line}  {bar}".rstrip() for line, bar in zip(table.split("\n"), bars, strict=True))


def _sizes(summaries: Sequence[Summary]) -> str:
    sizes = sum((summary.image_sizes for summary in summaries), Counter())
    common = ", ".join(f"{count} of {width}x{height}" for (height, width), count in sizes.most_common(COMMON_SIZES))
    if len(sizes) <= COMMON_SIZES:
        return f"image sizes: {common or 'none'}"
    heights, widths = zip(*sizes, strict=True)
    return (
        f"image sizes: {common}, ... ({len(sizes)} sizes, "
        f"width {min(widths)} to {max(widths)}, height {min(heights)} to {max(heights)})"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
