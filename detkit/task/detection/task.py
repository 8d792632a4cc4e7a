"""Implement the detection task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from detkit.core.plain import Metrics
from detkit.core.structures import Detections
from detkit.data.annotations import Annotations
from detkit.metric.evaluate import evaluate
from detkit.metric.records import GroundTruth, Predictions
from detkit.task.base import Accumulator, Task
from detkit.task.detection.accumulator import accumulate_detections
from detkit.task.detection.examples import DRAWN_FROM, draw_example
from detkit.task.detection.files import write_plots, write_predictions
from detkit.task.detection.prediction import Prediction
from detkit.task.detection.report import classes_section, confusion_section, detection_tiles
from detkit.task.detection.table import format_classes, format_overall
from detkit.task.detection.truth import ground_truth_of
from detkit.view.draw import draw_detections


class DetectionTask(Task[Detections, Predictions]):
    """Boxes with classes and scores, measured as PASCAL VOC and COCO do."""

    noun = "detections"
    columns = {"mAP_11pt": "mAP@.5, 11 points", "mAP_area": "mAP@.5, area", "AP": "COCO AP"}  # noqa: RUF012
    main = "mAP_area"
    legend = (
        f"Detections with a score of at least {DRAWN_FROM:g}. Ground truth is dashed; objects that were missed are "
        "named in white."
    )
    curves = {"mAP_area": "VOC mAP, area", "AP": "COCO AP", "AP50": "COCO AP50"}  # noqa: RUF012

    def accumulator(
        self, model: Any, annotations: Annotations
    ) -> AbstractContextManager[Accumulator[Detections, Predictions]]:
        return accumulate_detections(model)

    def evaluate(self, results: Predictions, annotations: Annotations) -> Metrics:
        return {**evaluate(results, ground_truth_of(annotations), annotations.classes)}

    def metric_names(self) -> list[str]:
        return list(_metric_names())

    def accuracies(self, metrics: Metrics) -> dict[str, float | None]:
        voc, coco = metrics["voc"], metrics["coco"]
        return {"mAP_11pt": voc["mAP_11pt"], "mAP_area": voc["mAP_area"], "AP": coco["AP"]}

    def table(self, metrics: Metrics) -> list[str]:
        return [format_overall(metrics), format_classes(metrics)]

    def write(self, folder: Path, metrics: Metrics, results: Predictions, annotations: Annotations) -> None:
        write_predictions(folder, results, annotations)
        write_plots(folder, metrics, results, annotations)

    def draw_example(
        self, image: NDArray[np.uint8], results: Predictions, annotations: Annotations, index: int
    ) -> Image.Image:
        return draw_example(image, results, annotations, index)

    def tiles(self, metrics: Metrics) -> dict[str, str]:
        return detection_tiles(metrics)

    def sections(self, metrics: Metrics) -> tuple[list[str], list[str]]:
        return [classes_section(metrics)], [confusion_section(metrics.get("confusion"))]

    def keep(
        self, found: Detections, names: Sequence[str], score_threshold: float | None, labels: Sequence[int] | None
    ) -> Detections:
        found = Prediction(found.boxes, found.scores, found.labels, names)
        if score_threshold is not None:
            found = found[found.scores >= score_threshold]
        return found if labels is None else found[torch.isin(found.labels, torch.tensor(labels))]

    def rows(self, found: Detections) -> list[dict[str, Any]]:
        return [dict(row) for row in found.to_dict()]

    def draw(self, image: NDArray[np.uint8], found: Detections) -> Image.Image:
        return draw_detections(image, found)


@cache
def _metric_names() -> tuple[str, ...]:
    """Those of an evaluation of nothing, which has all of them."""
    nothing: NDArray[Any] = np.zeros(0)
    metrics = evaluate(
        Predictions(image=nothing, boxes=nothing, scores=nothing, labels=nothing),
        GroundTruth(image=nothing, boxes=nothing, labels=nothing, num_images=0),
        ["any"],
    )
    return tuple(
        f"{group}.{key}"
        for group, numbers in (("voc", metrics["voc"]), ("coco", metrics["coco"]))
        for key, value in numbers.items()
        if not isinstance(value, Mapping)
    )
