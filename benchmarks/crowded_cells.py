"""What a coarse grid misses: the objects that share a cell with another one, against those that have one to themselves.

python benchmarks/crowded_cells.py --root VOC_FOLDER --split test RUN ...   writes benchmarks/results/crowded_cells.json

YOLO v1 lets each of 7 x 7 cells answer for one object (Redmon et al. 2016, section 2.4). An object is crowded where the
centre of another lies in its cell of the whole picture. AP is that at IoU 0.5 by area under the curve, the objects of
the other kind ignored, as difficult ones are; recall is the share of objects that a detection of any score finds. A
RUN is the folder of a training that was evaluated on this split; one with a finer grid shows how much harder crowded
objects are for any detector.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detkit.box_files.coco_json import read_coco_results  # noqa: E402
from detkit.box_files.reference import ImageNames, Reference, numbered  # noqa: E402
from detkit.core.environment import describe_environment  # noqa: E402
from detkit.data.annotations import Annotations  # noqa: E402
from detkit.data.formats.voc.voc import read_voc  # noqa: E402
from detkit.metric.average_precision import area, average_precision  # noqa: E402
from detkit.metric.match import voc_argmax  # noqa: E402
from detkit.metric.records import GroundTruth  # noqa: E402

GRID, IOU, FEWEST = 7, 0.5, 30  # objects that an AP is worked out for


def main() -> None:
    """Print and write the table that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="a folder in VOC layout")
    parser.add_argument("--split", default="test")
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    annotations = read_voc(options.root, options.split)
    truth = GroundTruth.from_annotations(annotations)
    crowded = shares_cell(annotations)
    rows = [row for run in options.runs for row in compare(run, annotations, truth, crowded)]
    result = {
        "what": f"objects that share a cell of {GRID} x {GRID} with another, and those that do not; IoU {IOU}",
        "data": f"{options.root.name} {options.split}",
        "environment": describe_environment(torch.device("cpu")),
        "results": rows,
    }
    path = ROOT / "benchmarks" / "results" / "crowded_cells.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'run':<16}{'class':<12}{'alone':>7}{'AP':>8}{'recall':>8}{'crowded':>9}{'AP':>8}{'recall':>8}")
    for row in rows:
        values = "".join(
            f"{row[kind]['objects']:>{width}}{row[kind]['AP']:>8.1f}{row[kind]['recall']:>8.1f}"
            for kind, width in (("alone", 7), ("crowded", 9))
        )
        print(f"{row['run']:<16}{row['class']:<12}{values}")


def compare(
    run: Path, annotations: Annotations, truth: GroundTruth, crowded: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """A row per class that has enough objects of both kinds, with the AP and recall of each, in percent."""
    classes = annotations.classes
    names = Reference(
        ground_truth=truth,
        classes=classes,
        names=ImageNames(annotations.image_ids),
        image_of=numbered(annotations.image_ids),
        category_of={str(label + 1): label for label in range(len(classes))},
    )
    predictions, _ = read_coco_results(run / "predictions.json", names)
    rows = []
    kinds = {"alone": ~crowded, "crowded": crowded}
    for label, name in enumerate(classes):
        counts = {kind: int((chosen & (truth.labels == label)).sum()) for kind, chosen in kinds.items()}
        if min(counts.values()) < FEWEST:
            continue
        row: dict[str, Any] = {"run": run.name, "class": name}
        for kind, chosen in kinds.items():
            scores = average_precision(
                predictions,
                replace(truth, difficult=~chosen),
                len(classes),
                matcher=voc_argmax,
                integrator=area,
                iou_thresholds=[IOU],
            )
            ap, recall = (100 * float(column[0, label]) for column in scores)
            row[kind] = {"objects": counts[kind], "AP": ap, "recall": recall}
        rows.append(row)
    return rows


def shares_cell(annotations: Annotations) -> NDArray[np.bool_]:
    """Whether the centre of another object lies in the same cell: bool [M]."""
    image = annotations.image_of_object()
    centre = (annotations.boxes[:, :2] + annotations.boxes[:, 2:]) / 2  # (x, y)
    column, row = (GRID * centre / annotations.sizes[image][:, ::-1]).astype(np.int64).clip(0, GRID - 1).T
    cell = (image * GRID + row) * GRID + column
    _, which, count = np.unique(cell, return_inverse=True, return_counts=True)
    return count[which] > 1


if __name__ == "__main__":
    main()
