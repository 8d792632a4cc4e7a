"""Inspect an image of a data set: readable, of the declared size, with sound boxes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detkit.core.errors import UserError
from detkit.core.structures import Size
from detkit.data.annotations import Annotations, Fault
from detkit.data.quality.repair import box_faults
from detkit.image.read import open_picture, read_image

_ORIENTATION = 0x0112  # the EXIF tag
_SWAPS_SIDES = (5, 6, 7, 8)


class Inspection(NamedTuple):
    """size: (H, W) of the frame that the boxes are in; declared where the file cannot be read.

    turned: the file asks viewers to rotate it. upright: the boxes are in the frame after that.
    digest: of the decoded pixels, so that copies under other names or formats are found; None if unreadable.
    """

    size: Size
    turned: bool
    upright: bool
    digest: bytes | None
    faults: list[Fault]


def inspect_image(annotations: Annotations, index: int) -> Inspection:
    """Decode image `index` and hold its annotation against it."""
    path = annotations.image_paths[index]
    height, width = annotations.sizes[index].tolist()
    declared: Size = (height, width)
    try:
        pixels = read_image(path)
        orientation = _orientation(path)
    except UserError as error:
        kind = "unreadable image" if Path(path).is_file() else "missing image"
        reason = str(error).removeprefix(f"cannot read image {path}: ")
        faults = [Fault(kind, path, reason), *_faulty_boxes(annotations, index, declared)]
        return Inspection(declared, False, True, None, faults)

    shown: Size = (pixels.shape[0], pixels.shape[1])
    stored = shown[::-1] if orientation in _SWAPS_SIDES else shown
    upright = declared != stored or declared == shown
    size = shown if upright else stored
    faults = []
    if orientation != 1:
        faults.append(Fault("EXIF-rotated image", path, _explain_rotation(orientation, declared, shown, stored)))
    if declared not in ((0, 0), shown, stored):
        faults.append(Fault("size mismatch", path, f"is {_text(shown)} but its annotation declares {_text(declared)}"))
    faults += _faulty_boxes(annotations, index, size)
    return Inspection(size, orientation != 1, upright, _digest(pixels), faults)


def _orientation(path: str) -> int:
    """1 where the picture is stored as it is shown, 2..8 where EXIF says otherwise."""
    try:
        with open_picture(path) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # the pixels are fine; a broken EXIF block is as good as none
        return 1
    return orientation if orientation in range(1, 9) else 1


def _explain_rotation(orientation: int, declared: Size, shown: Size, stored: Size) -> str:
    if shown == stored or declared not in (shown, stored):
        frame = "which of the two the boxes are drawn on cannot be told from the size; detkit takes it as shown"
    else:
        frame = f"the boxes are drawn on it as {'shown' if declared == shown else 'stored'}, by its declared size"
    return f"is stored as {_text(stored)} and shown as {_text(shown)} (EXIF orientation {orientation}); {frame}"


def _faulty_boxes(annotations: Annotations, index: int, size: Size) -> list[Fault]:
    boxes, labels, _ = annotations.objects(index)
    return [
        Fault(
            kind,
            annotations.image_ids[index],
            f"{annotations.classes[int(labels[row])]} {_box_text(boxes[row])} in {_text(size)}",
        )
        for kind, mask in box_faults(boxes, size, labels).items()
        for row in np.flatnonzero(mask)
    ]


def _box_text(box: NDArray[np.float32]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"


def _text(size: Size) -> str:
    return f"{size[1]}x{size[0]}"


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
