"""Match the six classes that PASCAL VOC, and Darknet's coco.names, spell otherwise than COCO."""

from __future__ import annotations

from collections.abc import Container

VOC_AND_COCO = (
    ("aeroplane", "airplane"),
    ("diningtable", "dining table"),
    ("motorbike", "motorcycle"),
    ("pottedplant", "potted plant"),
    ("sofa", "couch"),
    ("tvmonitor", "tv"),
)
OTHER_SPELLING = {name: other for pair in VOC_AND_COCO for name, other in (pair, pair[::-1])}


def spelled_among(name: str, known: Container[str], classes: Container[str]) -> str | None:
    """`name` as it stands in `known`: itself, or its other spelling, unless that is one of the `classes`; or None."""
    other = OTHER_SPELLING.get(name)
    if name in known or other is None:
        return name if name in known else None
    return other if other in known and other not in classes else None
