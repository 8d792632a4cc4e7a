"""Format a detector's metrics as text: overall with their protocol, and by class."""

from __future__ import annotations

from detkit.core.plain import Metrics
from detkit.view.numbers import percent


def format_overall(metrics: Metrics) -> str:
    """Images, objects and detections, and the means over classes, a line for each kind."""
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


def format_classes(metrics: Metrics) -> str:
    """A line for each class: AP, the best F1 and where it is."""
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
