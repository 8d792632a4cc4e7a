"""Render a detector's metrics as sections of the report."""

from __future__ import annotations

from html import escape

from detkit.core.plain import Metrics
from detkit.view.chart import heat_table, meter
from detkit.view.numbers import value_at
from detkit.view.page import section


def detection_tiles(metrics: Metrics) -> dict[str, str]:
    """The means over classes, in %, by name; "" where there is none."""
    return {
        "VOC mAP@0.5, area": _percent(metrics, "voc", "mAP_area"),
        "VOC mAP@0.5, 11 points": _percent(metrics, "voc", "mAP_11pt"),
        "COCO AP@.5:.95": _percent(metrics, "coco", "AP"),
        "COCO AP75": _percent(metrics, "coco", "AP75"),
        "COCO AR@100": _percent(metrics, "coco", "AR_100"),
    }


def classes_section(metrics: Metrics) -> str:
    """A line of bars for each class; "" where there are none."""
    rows = []
    coco = value_at(metrics, "coco", "per_class") or {}
    for name, row in (value_at(metrics, "voc", "per_class") or {}).items():
        best = row.get("best_threshold")
        numbers = [row.get("num_objects", ""), row.get("num_detections", ""), "" if best is None else f"{best:.2f}"]
        cells = "".join(f'<td class="n">{value}</td>' for value in numbers)
        bars = [row.get("ap_area"), coco.get(name, {}).get("AP"), row.get("precision"), row.get("recall")]
        rows.append(f"<tr><th>{escape(name)}</th>{cells}{''.join(f'<td>{meter(value)}</td>' for value in bars)}</tr>")
    head = "".join(
        f"<th>{name}</th>"
        for name in ("class", "objects", "detections", "best F1 at", "AP@0.5, area", "COCO AP", "precision", "recall")
    )
    return section(
        "Classes", f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>' if rows else ""
    )


def confusion_section(confusion: Metrics | None) -> str:
    """The confusion matrix as a table; "" where there is none."""
    if not confusion:
        return ""
    note = (
        f'<p class="soft">Detections with a score of at least {confusion["score_threshold"]:g}, matched at IoU '
        f"{confusion['iou_threshold']:g}; rows are the truth, columns what was said.</p>"
    )
    table = heat_table(confusion["rows"], confusion["columns"], confusion["counts"])
    return section("Confusion", f'{note}<div class="scroll">{table}</div>')


def _percent(metrics: Metrics, *keys: str) -> str:
    value = value_at(metrics, *keys)
    return "" if value is None else f"{100 * value:.1f}"
