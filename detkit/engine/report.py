"""What an evaluation leaves behind: one table for the reader, metrics.json, predictions.json, plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detkit.data.annotations import Annotations
from detkit.metric.files import coco_results
from detkit.metric.records import Predictions


def write_report(folder: Path, metrics: Mapping[str, Any], predictions: Predictions, annotations: Annotations) -> None:
    """Write metrics.json and predictions.json (COCO results) into `folder`.

    Category ids are those of the COCO file the classes came from, else label + 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = coco_results(predictions, list(annotations.image_ids), annotations.category_ids)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (folder / "predictions.json").write_text(json.dumps(rows) + "\n", encoding="utf-8")


def percent(value: float | None) -> str:
    """A fraction as 12.34, None as a dash."""
    return "-" if value is None else f"{100 * value:.2f}"


def format_table(metrics: Mapping[str, Any]) -> str:
    """The numbers of metrics.json as text."""
    voc, coco, protocol = metrics["voc"], metrics["coco"], metrics["protocol"]
    lines = [
        f"{protocol['num_images']} images, {protocol['num_objects']} objects"
        f" (+{protocol['num_difficult']} difficult, ignored), {protocol['num_detections']} detections",
        "",
        f"{'VOC mAP@0.5, area':<24}{percent(voc['mAP_area']):>8}    {'COCO AP@.5:.95':<20}{percent(coco['AP']):>8}",
        f"{'VOC mAP@0.5, 11 points':<24}{percent(voc['mAP_11pt']):>8}    {'COCO AP50':<20}{percent(coco['AP50']):>8}",
    ]
    lines += ["", f"{'class':<24}{'objects':>8}{'AP area':>9}{'AP 11pt':>9}{'COCO AP':>9}{'best F1 at':>12}"]
    for name, row in voc["per_class"].items():
        threshold = "-" if row["best_threshold"] is None else f"{row['best_threshold']:.2f}"
        lines.append(
            f"{name:<24}{row['num_objects']:>8}{percent(row['ap_area']):>9}{percent(row['ap_11pt']):>9}"
            f"{percent(coco['per_class'][name]['AP']):>9}{threshold:>12}"
        )
    return "\n".join(lines)
