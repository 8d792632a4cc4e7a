"""Run `detkit fit_anchors`: cluster the boxes of a data set into anchor shapes for YOLO v2 and v3."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from detkit.config.instantiate import build
from detkit.core.errors import UserError
from detkit.data.annotations import Annotations
from detkit.data.split import describe_reading, read_training_split
from detkit.image.preprocess import Preprocess
from detkit.image.read import read_image_size
from detkit.ops.kmeans import best_iou, fit_shapes

THRESHOLDS = (0.5, 0.6, 0.7, 0.8)


class AnchorReport(TypedDict):
    """Anchors (width, height) in pixels of the network's input, per level, and how well they fit.

    fit: for each number of anchors up to that, `num_anchors` and what `measure_fit` gives.
    """

    source: str
    num_objects: int
    anchors: list[list[list[float]]]
    fit: list[dict[str, float]]


def fit_anchors(config: DictConfig) -> AnchorReport:
    """Fit `num_anchors` shapes to the objects of a split, print them as config, and report recall with them.

    Returns what `config.report` gets. Raises UserError where the split has no objects, or where the levels do not
    divide the anchors.
    """
    num_anchors, levels = int(config.num_anchors), int(config.levels)
    if num_anchors < 1 or levels < 1 or num_anchors % levels != 0:
        raise UserError(f"num_anchors={num_anchors} levels={levels}: every level has as many anchors as the others")
    annotations = read_training_split(config.data, config.split or config.data.train_split)
    for line in describe_reading(annotations):
        print(line, file=sys.stderr)
    preprocess = build(config.preprocess, "preprocess")
    shapes = object_shapes(annotations, preprocess, keep_difficult=config.data.difficult == "keep")
    if len(shapes) == 0:
        raise UserError(f"{annotations.source} has no objects to fit anchors to")
    fitted = {k: fit_shapes(shapes, k, seed=config.seed) for k in range(1, num_anchors + 1)}
    anchors = [[round(side, 1) for side in shape] for shape in fitted[num_anchors].tolist()]
    per_level = num_anchors // levels
    report: AnchorReport = {
        "source": annotations.source,
        "num_objects": len(shapes),
        "anchors": [anchors[i : i + per_level] for i in range(0, num_anchors, per_level)],
        "fit": [{"num_anchors": k, **measure_fit(shapes, shape)} for k, shape in fitted.items()],
    }
    print(describe(report))
    if config.report is not None:
        path = Path(config.report).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"written to {path}")
    return report


def object_shapes(annotations: Annotations, preprocess: Preprocess, *, keep_difficult: bool = False) -> Tensor:
    """Widths and heights of all objects, in pixels of the network's input: float32 [N, 2].

    keep_difficult: whether difficult ones are objects like others, as in trainings with data.difficult=keep.
    """
    shapes = []
    for index in range(len(annotations)):
        boxes, _, difficult = annotations.objects(index)
        if len(boxes) == 0:
            continue
        height, width = annotations.sizes[index].tolist()
        if height == 0 or width == 0:  # an annotation file that does not say
            height, width = read_image_size(annotations.image_paths[index])
        moved = preprocess.to_input(boxes[~difficult | keep_difficult], (height, width))
        shapes.append(moved[:, 2:] - moved[:, :2])
    found = np.concatenate(shapes) if shapes else np.zeros((0, 2), np.float32)
    return torch.from_numpy(found[(found > 0).all(axis=1)])


def measure_fit(shapes: Tensor, anchors: Tensor) -> dict[str, float]:
    """Mean IoU of each shape with the anchor most like it, and the share of shapes where that is above a threshold."""
    iou, _ = best_iou(shapes.double(), anchors.double())
    return {"mean_iou": float(iou.mean())} | {f"recall_{t}": float((iou > t).double().mean()) for t in THRESHOLDS}


def describe(report: AnchorReport) -> str:
    """The report as text: a table, and the anchors as a config has them."""
    lines = [
        f"{report['source']}: {report['num_objects']} objects; IoU of shapes, each with the anchor most like it",
        "anchors  mean IoU" + "".join(f"  recall@{t}" for t in THRESHOLDS),
    ]
    for row in report["fit"]:
        recalls = "".join(f"{100 * row[f'recall_{t}']:12.1f}" for t in THRESHOLDS)
        lines.append(f"{row['num_anchors']:7d}{row['mean_iou']:10.3f}{recalls}")
    levels = report["anchors"]
    anchors = levels if len(levels) > 1 else levels[0]
    return "\n".join([*lines, f"model.dense_head.anchors={json.dumps(anchors, separators=(',', ':'))}"])
