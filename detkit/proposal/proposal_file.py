"""Read and write proposals: detkit's npz, COCO results json, the MATLAB files that R-CNN published."""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.core.atomic_file import atomic_file
from detkit.core.errors import UserError
from detkit.data.annotations import PackedStrings
from detkit.data.proposals import Proposals

FORMAT = 1  # raised when older versions cannot read what is written
ARRAYS = ("id_buffer", "id_offsets", "offsets", "boxes", "seconds")


def read_proposals(path: str | Path) -> Proposals:
    """The proposals in a file, by its suffix.

    .npz: written by `write_proposals`. .json: COCO results, a list of {"image_id", "bbox": [x, y, w, h], "score"},
    ordered by score here. .mat: cells `images` (ids) and `boxes` (rows y1, x1, y2, x2, 1-based, inclusive, in the
    order they have). A folder: all .npz and .mat files in it, one for each split; an image in several has its
    proposals from the first by name. Raises UserError that names the file, what is wrong with it and what would be
    right.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_folder(path)
    readers = {".npz": _read_npz, ".json": _read_json, ".mat": _read_mat}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: proposals are read from {', '.join(readers)} files")
    if not path.is_file():
        raise UserError(f"no file of proposals at {path} (current folder: {Path.cwd()}); detkit propose writes one")
    proposals = readers[path.suffix.lower()](path)
    _check_boxes(proposals)
    return proposals


def _read_folder(folder: Path) -> Proposals:
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".npz", ".mat")]
    if not files:
        raise UserError(f"no files of proposals (.npz, .mat) in {folder}; detkit propose output={folder} writes them")
    boxes: dict[str, NDArray[np.float32]] = {}
    seconds: dict[str, float] = {}
    for path in files:
        proposals = read_proposals(path)
        for index, image_id in enumerate(proposals.image_ids):
            if image_id not in boxes:
                boxes[image_id], seconds[image_id] = proposals.of(index), float(proposals.seconds[index])
    return Proposals.pack(
        list(boxes),
        list(boxes.values()),
        list(seconds.values()),
        method=proposals.method,
        parameters=proposals.parameters,
        source=str(folder),
    )


def write_proposals(path: str | Path, proposals: Proposals) -> None:
    """Write an npz file, whole or not at all, creating folders."""
    about = {"format": FORMAT, "method": proposals.method, "parameters": proposals.parameters}
    with atomic_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            id_buffer=proposals.image_ids.buffer,
            id_offsets=proposals.image_ids.offsets,
            offsets=proposals.offsets,
            boxes=proposals.boxes,
            seconds=proposals.seconds,
        )


def _read_npz(path: Path) -> Proposals:
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            id_buffer, id_offsets, offsets, boxes, seconds = (file[name] for name in ARRAYS)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is not a file of proposals ({error}): make one with detkit propose, or with write_proposals of "
            "detkit.proposal.proposal_file"
        ) from error
    if about.get("format") != FORMAT:
        raise UserError(f"{path} has format {about.get('format')}, this detkit reads {FORMAT}: make the file anew")
    image_ids = PackedStrings(id_buffer, id_offsets)
    count = len(image_ids)
    if offsets.shape != (count + 1,) or seconds.shape != (count,) or boxes.shape != (offsets[-1], 4):
        raise UserError(f"{path} contradicts itself: {count} image ids, {len(offsets)} offsets, boxes {boxes.shape}")
    return Proposals(
        image_ids=image_ids,
        offsets=offsets,
        boxes=boxes,
        seconds=seconds,
        method=about["method"],
        parameters=about["parameters"],
        source=str(path),
    )


def _read_json(path: Path) -> Proposals:
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not json: {error}") from error
    if not isinstance(entries, list):
        raise UserError(f"{path} holds no list: expected COCO results [{{image_id, bbox: [x, y, w, h], score}}, ...]")
    found: dict[str, list[tuple[float, float, float, float, float]]] = defaultdict(list)
    for number, entry in enumerate(entries):
        try:
            left, top, width, height = (float(value) for value in entry["bbox"])
            found[str(entry["image_id"])].append((float(entry["score"]), left, top, left + width, top + height))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: entry {number} is no proposal ({error!r}): expected image_id, bbox [x, y, w, h] and score"
            ) from error
    ranked = [np.array(sorted(rows, key=lambda row: -row[0]))[:, 1:] for rows in found.values()]
    return Proposals.pack(list(found), ranked, method="coco results", source=str(path))


def _read_mat(path: Path) -> Proposals:
    from scipy.io import loadmat

    try:
        content = loadmat(str(path), variable_names=("images", "boxes"))
    except NotImplementedError as error:
        raise UserError(f"{path} is a MATLAB 7.3 file: save it with save(..., '-v7')") from error
    except Exception as error:  # on broken bytes the parser may raise anything
        raise UserError(f"{path} is not a MATLAB file: {error}") from error
    if "images" not in content or "boxes" not in content:
        raise UserError(f"{path} lacks the cells `images` and `boxes` of a file of proposals")
    image_ids = [_text(cell) for cell in content["images"].ravel()]
    boxes = [_from_matlab(cell, path, name) for name, cell in zip(image_ids, content["boxes"].ravel(), strict=False)]
    if len(image_ids) != content["boxes"].size:
        raise UserError(f"{path}: {len(image_ids)} images but {content['boxes'].size} cells of boxes")
    return Proposals.pack(image_ids, boxes, method="matlab file", source=str(path))


def _from_matlab(cell: NDArray[np.generic], path: Path, image_id: str) -> NDArray[np.float64]:
    rows = np.asarray(cell, np.float64)
    if rows.size and (rows.ndim != 2 or rows.shape[1] != 4):
        raise UserError(f"{path}: boxes of {image_id} are {rows.shape}, expected rows of y1, x1, y2, x2")
    top, left, bottom, right = rows.reshape(-1, 4).T
    return np.stack([left - 1, top - 1, right, bottom], axis=1)


def _text(cell: object) -> str:
    while isinstance(cell, np.ndarray):  # a string in a cell is an array in an array
        cell = cell.ravel()[0] if cell.size else ""
    return str(cell)


def _check_boxes(proposals: Proposals) -> None:
    if len(set(proposals.image_ids)) != len(proposals):
        raise UserError(f"{proposals.source} has two entries for one image id: each image needs all its boxes in one")
    boxes = proposals.boxes
    wrong = np.flatnonzero(~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)))
    if len(wrong):
        image = int(np.searchsorted(proposals.offsets, wrong[0], side="right")) - 1
        raise UserError(
            f"{proposals.source}: {len(wrong)} boxes are empty or not finite, the first for image "
            f"{proposals.image_ids[image]}: {boxes[wrong[0]].tolist()} (xyxy); leave such boxes out of the file"
        )
