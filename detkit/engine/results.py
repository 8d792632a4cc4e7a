"""What an evaluation leaves behind: one table, metrics.json, predictions.json, plots, pictures, a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from detkit.data.annotations import Annotations
from detkit.data.category_ids import fill_category_ids
from detkit.engine.load import describe_load
from detkit.engine.profile import format_profile
from detkit.engine.validate import ground_truth_of
from detkit.metric.average_precision import curves
from detkit.metric.files import coco_results
from detkit.metric.match import group, voc_argmax
from detkit.metric.records import Predictions
from detkit.visualize.plots import plot_confusion, plot_curves, plot_stages, save_plot
from detkit.visualize.report import write_report


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def write_predictions(folder: Path, predictions: Predictions, annotations: Annotations) -> None:
    """Write predictions.json, COCO results, into `folder`.

    Category ids are those of the COCO file that the annotations came from, elsewhere label + 1, so 1 is the first
    class. Image ids that are whole numbers become numbers. Boxes are [x, y, width, height] in pixels.
    """
    ids = fill_category_ids(annotations, None).category_ids
    rows = coco_results(predictions, list(annotations.image_ids), ids)  # type: ignore[arg-type]  # none is None
    (folder / "predictions.json").write_text(json.dumps(rows) + "\n", encoding="utf-8")


def write_plots(folder: Path, metrics: Mapping[str, Any], predictions: Predictions, annotations: Annotations) -> None:
    """Draw plots/precision_recall.png, confusion.png and, where time was measured, stages.png into `folder`."""
    grouped = group(predictions, ground_truth_of(annotations), len(annotations.classes))
    of_each_class = curves(grouped, voc_argmax(grouped, [0.5]), 0)
    figures = {
        "precision_recall": plot_curves(of_each_class, annotations.classes),
        "confusion": plot_confusion(metrics["confusion"]),
    }
    if "timing" in metrics:
        figures["stages"] = plot_stages(metrics["timing"]["stages_ms"])
    for name, figure in figures.items():
        save_plot(figure, folder / "plots" / f"{name}.png")


def write_pictures(folder: Path, pictures: Sequence[Image.Image]) -> None:
    """Write pictures/000.jpg, ... into `folder`, and report.html, which shows them and whatever else is there."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        picture.save(folder / "pictures" / f"{index:03}.jpg", quality=90)
    write_report(folder, pictures)


def format_table(metrics: Mapping[str, Any]) -> str:
    """The numbers of metrics.json as text: overall with their protocol, by class, time by stage."""
    parts = [_overall(metrics), _by_class(metrics)]
    if "proposals" in metrics:
        parts.append(_proposals(metrics["proposals"]))
    if "timing" in metrics:
        parts.append(_timing(metrics["timing"]))
    if "profile" in metrics:
        parts.append(format_profile(metrics["profile"]))
    return "\n\n".join(parts)


def percent(value: float | None) -> str:
    """A fraction as 12.34; what could not be measured as a dash."""
    return "-" if value is None else f"{100 * value:.2f}"


def _overall(metrics: Mapping[str, Any]) -> str:
    voc, coco, protocol = metrics["voc"], metrics["coco"], metrics["protocol"]
    of = f" of {protocol['split']}" if "split" in protocol else ""
    left = {"mAP_area": "VOC mAP@.5 area", "mAP_11pt": "VOC mAP@.5 11-point"}
    right = {"AP": "COCO AP@.5:.95", "AP50": "AP50", "AP75": "AP75"}
    right |= {"AP_S": "small", "AP_M": "medium", "AP_L": "large", "AR_100": "AR@100"}
    by_iou = [
        f"VOC mAP@{iou} area {percent(row['mAP_area'])} 11-point {percent(row['mAP_11pt'])}"
        for iou, row in voc["by_iou"].items()
        if len(voc["by_iou"]) > 1
    ]
    return "\n".join(
        [
            f"{protocol['num_images']} images{of}, {protocol['num_objects']} objects"
            f" and {protocol['num_difficult']} difficult ones (ignored), {protocol['num_detections']} detections",
            "   ".join(f"{name} {percent(voc[key])}" for key, name in left.items()),
            "   ".join(f"{name} {percent(coco[key])}" for key, name in right.items()),
            *by_iou,
        ]
    )


def _by_class(metrics: Mapping[str, Any]) -> str:
    rows = metrics["voc"]["per_class"]
    width = max([len(name) for name in rows] + [12])
    lines = [
        f"{'class':<{width}}{'objects':>9}{'AP area':>9}{'AP 11pt':>9}{'COCO AP':>9}"
        f"{'best F1':>9}{'at score':>9}{'precision':>11}{'recall':>8}"
    ]
    for name, row in rows.items():
        score = "-" if row["best_threshold"] is None else f"{row['best_threshold']:.2f}"
        lines.append(
            f"{name:<{width}}{row['num_objects']:>9}{percent(row['ap_area']):>9}{percent(row['ap_11pt']):>9}"
            f"{percent(metrics['coco']['per_class'][name]['AP']):>9}{percent(row['best_f1']):>9}{score:>9}"
            f"{percent(row['precision']):>11}{percent(row['recall']):>8}"
        )
    return "\n".join(lines)


def _proposals(proposals: Mapping[str, Any]) -> str:
    lines = [f"{'proposals':<12}{'recall@.5':>10}{'recall@.7':>10}{'avg recall':>11}"]
    for count, row in proposals.items():
        if isinstance(row, Mapping):
            lines.append(
                f"{count:<12}{percent(row['recall_50']):>10}{percent(row['recall_70']):>10}"
                f"{percent(row['average_recall']):>11}"
            )
    return "\n".join(lines)


def _timing(timing: Mapping[str, Any]) -> str:
    total, stages = timing["total_ms"], timing["stages_ms"]
    return "\n".join(
        [
            f"ms per image: mean {total['mean']:.1f}, p50 {total['p50']:.1f}, p95 {total['p95']:.1f}"
            f" (batch 1, {timing['images']} images after {timing['warmup']} to warm up, {timing['runtime']},"
            f" {timing['precision']}, {timing['device_name']}, {timing['threads']} threads)",
            "   ".join(f"{stage} {value:.1f}" for stage, value in stages.items()),
            *filter(None, [describe_regions(timing.get("regions")), describe_load(timing.get("load"))]),
        ]
    )


def describe_regions(regions: str | None) -> str:
    """A line on where the time of regions from outside comes from; "" where there are none, or they were computed."""
    lines = {
        "recorded": "regions: as recorded when they were computed, perhaps on another machine",
        "unknown": "regions: what they took is not known, and the total lacks it",
    }
    return lines.get(regions or "", "")
