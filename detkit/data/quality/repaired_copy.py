"""Write a repaired copy of a data set in VOC layout."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from detkit.core.errors import UserError
from detkit.data.annotations import Annotations, Objects
from detkit.data.formats.voc.voc_writer import VocWriter
from detkit.data.quality.inspect_image import Inspection
from detkit.data.quality.repair import Policy, box_faults, repair_boxes
from detkit.image.read import read_image


def write_repaired(
    splits: Mapping[str, Annotations],
    inspections: Mapping[str, Sequence[Inspection]],
    output: Path,
    policy: Policy,
) -> str:
    """Copy what can be used of all splits into the folder `output`; returns a sentence about it.

    Boxes are repaired by `policy`, and clicks of one pixel are left out. Unreadable images are left out; of an image
    that is there several times only the last stays, so that a training split loses what evaluation needs. Pictures
    that EXIF turns are stored turned, as PNG; all others are copied byte by byte. Where ids repeat, or hold slashes,
    they change. Raises UserError where `output` is not empty.
    """
    check_empty(output)
    writer = VocWriter(output, next(iter(splits.values())).classes)
    kept = _kept_images(inspections)
    names: set[str] = set()
    num_images = num_objects = 0
    for split, found in splits.items():
        ids = []
        for index in kept[split]:
            inspection = inspections[split][index]
            image_id = _free_name(found.image_ids[index], split, names)
            source = Path(found.image_paths[index])
            objects = _repaired(found.objects(index), inspection, policy)
            suffix = ".png" if inspection.turned else source.suffix
            target = writer.add(image_id, suffix, inspection.size, objects)
            if inspection.turned:
                Image.fromarray(read_image(source, upright=inspection.upright)).save(target)
            else:
                shutil.copyfile(source, target)
            ids.append(image_id)
            num_objects += len(objects.boxes)
        writer.add_split(_plain(split), ids)
        num_images += len(ids)
    all_images, all_objects = sum(map(len, splits.values())), sum(len(found.boxes) for found in splits.values())
    return (
        f"wrote {num_images} of {all_images} images with {num_objects} of {all_objects} objects to {output}; "
        f"use it with: data=voc data.root={output} and the splits {', '.join(map(_plain, splits))}"
    )


def check_empty(output: Path) -> None:
    """Raise UserError where `output` exists and is not an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"output={output} is not an empty folder")


def _kept_images(inspections: Mapping[str, Sequence[Inspection]]) -> dict[str, list[int]]:
    """By split, the indices of the readable images that do not come again later."""
    last = {
        result.digest: (split, index) for split, results in inspections.items() for index, result in enumerate(results)
    }
    return {
        split: [
            index
            for index, result in enumerate(results)
            if result.digest is not None and last[result.digest] == (split, index)
        ]
        for split, results in inspections.items()
    }


def _repaired(objects: Objects, inspection: Inspection, policy: Policy) -> Objects:
    cut, keep = repair_boxes(objects.boxes, inspection.size, policy, objects.labels)
    keep &= ~box_faults(cut, inspection.size)["one-pixel box"]
    return Objects(cut[keep], objects.labels[keep], objects.difficult[keep])


def _free_name(image_id: str, split: str, names: set[str]) -> str:
    """A file name for an image, not yet in `names`; adds it there."""
    plain = _plain(image_id)
    candidates = [plain, f"{_plain(split)}_{plain}"]
    name = next((name for name in candidates if name not in names), f"{candidates[-1]}_{len(names)}")
    names.add(name)
    return name


def _plain(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)
