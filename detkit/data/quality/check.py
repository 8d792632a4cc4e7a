"""Check a data set in one pass that names every fault."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypedDict

from tqdm import tqdm

from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.data.annotations import Annotations
from detkit.data.quality.content import content_faults
from detkit.data.quality.inspect_image import Inspection, inspect_image
from detkit.data.quality.summary import Summary, SummaryJson, summarise, summary_text
from detkit.data.split import read_split


class SplitFault(NamedTuple):
    """A fault and the split it is in."""

    split: str
    kind: str
    where: str
    message: str


class ReportJson(TypedDict):
    """A `Report` as JSON; fault_counts: by kind, faults: the fields of each `SplitFault`."""

    splits: dict[str, SummaryJson]
    fault_counts: dict[str, int]
    faults: list[dict[str, str]]
    notes: list[str]


@dataclass
class Report:
    """What the check found; `inspections` has one entry per image of each split, `notes` say what is no fault."""

    faults: list[SplitFault]
    summaries: dict[str, Summary]
    inspections: dict[str, list[Inspection]]
    notes: list[str]

    def counts(self) -> dict[str, int]:
        """How many faults of each kind, the most frequent first."""
        return dict(Counter(fault.kind for fault in self.faults).most_common())

    def to_dict(self) -> ReportJson:
        """JSON-ready, with all faults."""
        return {
            "splits": {name: summary.to_dict() for name, summary in self.summaries.items()},
            "fault_counts": self.counts(),
            "faults": [fault._asdict() for fault in self.faults],
            "notes": self.notes,
        }

    def text(self, limit: int) -> str:
        """The summary, and of each kind of fault the number and the first `limit`."""
        lines = [summary_text(self.summaries), ""]
        for kind, count in self.counts().items():
            lines.append(f"{kind}: {count}")
            mine = [fault for fault in self.faults if fault.kind == kind]
            lines += [f"  {fault.split}: {fault.where}: {fault.message}" for fault in mine[:limit]]
            if count > limit:
                lines.append(f"  ... and {count - limit} more")
        lines += self.notes
        total = len(self.faults)
        lines.append(f"{total} fault{'s' * (total != 1)}" if total else "no faults")
        return "\n".join(lines)


def check_dataset(splits: Mapping[str, Annotations]) -> Report:
    """Decode every image of every split and name what is wrong with it, with its boxes, and between the splits.

    The faults that the readers met (broken files, missing images, unknown classes) are part of the report, and what
    there is nothing of: images, objects, objects of a class, objects that are not difficult. Images are the same
    where file or decoded pixels are.
    """
    faults = [SplitFault(name, *fault) for name, fault in content_faults(splits)]
    faults += [SplitFault(name, *fault) for name, annotations in splits.items() for fault in annotations.faults]
    inspections = {name: _inspect_all(name, annotations) for name, annotations in splits.items()}
    for name, results in inspections.items():
        faults += [SplitFault(name, *fault) for result in results for fault in result.faults]
    faults += _repeated_images(splits, inspections)
    summaries = {
        name: summarise(annotations, [result.size for result in inspections[name]])
        for name, annotations in splits.items()
    }
    notes = list(dict.fromkeys(note for annotations in splits.values() for note in annotations.notes))
    return Report(list(dict.fromkeys(faults)), summaries, inspections, notes)


def read_splits(data: Settings) -> dict[str, Annotations]:
    """The splits that a data config names, by name, all with the classes of the first."""
    names = [data.get(f"{use}_split") for use in ("train", "val", "test")]
    splits: dict[str, Annotations] = {}
    for name in dict.fromkeys(str(name) for name in names if name is not None):
        classes = next(iter(splits.values())).classes if splits else None
        splits[name] = read_split(data, name, classes)
    if not splits:
        raise UserError("no split to check: set data.train_split, data.val_split or data.test_split")
    return splits


def _inspect_all(name: str, annotations: Annotations) -> list[Inspection]:
    # decoding leaves Python alone, so threads are enough and nothing is copied
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(partial(inspect_image, annotations), range(len(annotations)))
        return list(tqdm(results, desc=f"checking {name}", total=len(annotations), leave=False, disable=None))


def _repeated_images(
    splits: Mapping[str, Annotations], inspections: Mapping[str, list[Inspection]]
) -> list[SplitFault]:
    """An image that was there before: in the same split a duplicate, in another an overlap."""
    faults = []
    seen: dict[bytes | str, list[tuple[str, str]]] = defaultdict(list)  # what an image is known by -> split, id
    for name, split_annotations in splits.items():
        for index, result in enumerate(inspections[name]):
            image_id = split_annotations.image_ids[index]
            known_by = result.digest or os.path.realpath(split_annotations.image_paths[index])
            earlier = dict(seen[known_by])
            if name in earlier:
                faults.append(SplitFault(name, "duplicate image", image_id, f"is the same picture as {earlier[name]}"))
            for split, other_id in earlier.items():
                if split != name:
                    also = "" if other_id == image_id else f" as {other_id}"
                    faults.append(SplitFault(name, "split overlap", image_id, f"is also in {split}{also}"))
            seen[known_by].append((name, image_id))
    return faults
