"""Read, and first draw, a data set of synthetic scenes in VOC layout."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from detkit.core.errors import UserError
from detkit.core.palette import class_colour
from detkit.core.structures import Size
from detkit.data.annotations import Annotations, Objects
from detkit.data.formats.voc.voc import read_voc
from detkit.data.formats.voc.voc_writer import VocWriter
from detkit.data.synthetic.synthetic_scene import CLASSES, draw_scene

log = logging.getLogger(__name__)

MARKER = "synthetic.json"
DRAWING = 1  # raised when the same seed gives other pictures
JPEG_QUALITY = 95
FIRST_INDEX = {"train": 0, "val": 1_000_000, "test": 2_000_000}  # a larger train split leaves val and test as they are


def read_synthetic(
    root: str | Path,
    split: str,
    classes: Sequence[str] | None = None,
    *,
    num_train: int = 400,
    num_val: int = 100,
    num_test: int = 100,
    size: Sequence[int] = (240, 320),
    seed: int = 0,
    only_root: str | None = None,
) -> Annotations:
    """`read_voc` of a synthetic set, which is drawn into `root` first where it is not there yet.

    only_root: the one folder where that is done; elsewhere a set must be there already. None: anywhere.
    Raises UserError where `root` holds anything else.
    """
    if only_root is not None and Path(root) != Path(only_root).expanduser():
        _require_set(Path(root))
    write_synthetic(root, num_train=num_train, num_val=num_val, num_test=num_test, size=size, seed=seed)
    return read_voc(root, split, CLASSES if classes is None else classes)


def write_synthetic(
    root: str | Path,
    *,
    num_train: int = 400,
    num_val: int = 100,
    num_test: int = 100,
    size: Sequence[int] = (240, 320),
    seed: int = 0,
) -> bool:
    """Draw splits train, val, trainval and test of scenes of `size` (height, width) into the folder `root`.

    Beside the boxes there are masks: SegmentationObject holds k + 1 at the visible pixels of the k-th object of the
    annotation, SegmentationClass its label + 1. The same arguments give the same bytes. Returns whether anything was
    written: a set with these arguments stays as it is. Raises UserError where `root` holds anything else.
    """
    root = Path(root).expanduser()
    counts = {"train": num_train, "val": num_val, "test": num_test}
    wanted = {"drawing": DRAWING, "seed": seed, "size": [int(side) for side in size], **counts}
    if _holds(root, wanted):
        return False
    log.info("drawing %d synthetic scenes into %s (once)", sum(counts.values()), root)
    # a whole set or none, also when stopped half-way or when several processes want it at once
    unfinished = root.absolute().with_name(f".{root.name}.{os.getpid()}")
    try:
        _write(unfinished, counts, (int(size[0]), int(size[1])), seed)
        (unfinished / MARKER).write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        unfinished.rename(root)
    except OSError as error:
        if not _holds(root, wanted):  # else another process was faster
            raise UserError(f"cannot write the synthetic set into data.root={root}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return True


def _require_set(root: Path) -> None:
    """Raise UserError where no set was drawn into `root`: who gave it without data=... may have meant their own."""
    if (root / MARKER).is_file():
        return
    what = f"holds no drawn set (no {MARKER})" if root.is_dir() else f"does not exist (current folder: {Path.cwd()})"
    raise UserError(
        f"data.root={root} {what}: read your own with data=voc, coco or yolo beside data.root=...; or draw shapes "
        f"there: detkit make_synthetic root={root}, or data=synthetic"
    )


def _holds(root: Path, wanted: Mapping[str, object]) -> bool:
    """Whether `root` is the set that is wanted; UserError where it is something else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{root} is not empty and no synthetic set (it has no {MARKER}): choose another data.root, or read it "
            f"with data=voc"
        ) from None
    other = [f"{key}={found.get(key)} instead of {value}" for key, value in wanted.items() if found.get(key) != value]
    if other:
        raise UserError(
            f"{root} holds another synthetic set ({', '.join(other)}): delete it, choose another data.root, or read it "
            f"as it is with data=voc"
        )
    return True


def _write(root: Path, counts: dict[str, int], size: Size, seed: int) -> None:
    writer = VocWriter(root, CLASSES)
    for folder in ("SegmentationObject", "SegmentationClass"):
        (root / folder).mkdir()
    ids = {split: [f"{split}_{number:06d}" for number in range(count)] for split, count in counts.items()}
    ids["trainval"] = ids["train"] + ids["val"]
    for split, members in ids.items():
        writer.add_split(split, members)
    scenes = [(image_id, FIRST_INDEX[split] + number) for split in counts for number, image_id in enumerate(ids[split])]
    for image_id, index in tqdm(scenes, desc="scenes", leave=False, disable=None):
        scene = draw_scene(seed, index, size)
        objects = Objects(scene.boxes, scene.labels, scene.difficult)
        writer.add(image_id, ".jpg", size, objects).write_bytes(_jpeg(scene.image))
        _save_mask(root / "SegmentationObject" / f"{image_id}.png", scene.masks)
        class_of = np.concatenate([[0], scene.labels + 1]).astype(np.uint8)
        _save_mask(root / "SegmentationClass" / f"{image_id}.png", class_of[scene.masks])


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _save_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    picture = Image.fromarray(mask)
    picture.putpalette([0, 0, 0, *(channel for label in range(255) for channel in class_colour(label))])
    picture.save(path, optimize=False)
