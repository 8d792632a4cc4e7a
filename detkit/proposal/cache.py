"""Compute the proposals of an image file, or load them from the cache by content and parameters."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detkit.core.atomic_file import atomic_file
from detkit.core.errors import UserError
from detkit.core.structures import ProposalSource, Size
from detkit.image.read import read_image, read_image_size


class Job(NamedTuple):
    """One image: its file, and the (height, width) that its annotation declares; (0, 0) where it does not."""

    path: str
    declared: Size


class Outcome(NamedTuple):
    """boxes: float32 [P, 4] xyxy, best first. seconds: what they took, reading the file not counted.

    fault: why the file could not be read (then there are no boxes), else None.
    """

    boxes: NDArray[np.float32]
    seconds: float
    fault: str | None = None


def parameter_hash(parameters: Mapping[str, object]) -> str:
    """16 hex digits that differ where `parameters` do."""
    return hashlib.blake2b(json.dumps(parameters, sort_keys=True).encode(), digest_size=8).hexdigest()


def propose_file(job: Job, *, propose: ProposalSource, folder: Path | None) -> Outcome:
    """The proposals for one file, from `folder` where they are there, else made and put there; None: no cache."""
    cached = None
    try:
        upright = _boxes_are_upright(job)
        if folder is not None:
            digest = hashlib.blake2b(Path(job.path).read_bytes(), digest_size=16).hexdigest()
            cached = folder / f"{digest}{'' if upright else '-stored'}.npz"
            known = _load(cached)
            if known is not None:
                return known
        image = read_image(job.path, upright=upright)
    except (UserError, OSError) as error:
        return Outcome(np.zeros((0, 4), np.float32), float("nan"), str(error))
    start = time.perf_counter()
    boxes = propose(image)
    outcome = Outcome(boxes, time.perf_counter() - start)
    if cached is not None:
        _save(cached, outcome)
    return outcome


def _boxes_are_upright(job: Job) -> bool:
    """Whether the boxes of the annotation, and so those wanted here, are in the picture as EXIF turns it."""
    shown = read_image_size(job.path)
    return job.declared in ((0, 0), shown) or job.declared != read_image_size(job.path, upright=False)


def _load(path: Path) -> Outcome | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return Outcome(file["boxes"], float(file["seconds"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or not whole
        return None


def _save(path: Path, outcome: Outcome) -> None:
    with atomic_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, boxes=outcome.boxes, seconds=outcome.seconds)
