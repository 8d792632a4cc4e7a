"""Recall of class-agnostic proposals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detkit.core.jit import jit
from detkit.metric.match import overlap
from detkit.metric.records import GroundTruth

Boxes: TypeAlias = NDArray[np.floating[Any]] | Tensor

RecallRow: TypeAlias = dict[str, float | dict[str, float | None] | None]

AVERAGE_RECALL_IOUS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class Recall:
    """How well the best proposals of each image cover the objects; None where there are none.

    at_iou: by threshold, the share of objects covered at it; several may be covered by one proposal. average_recall:
    its mean over IoU .5:.05:.95. ABO: the mean best IoU by class; MABO: the mean of those (Uijlings et al. 2013,
    section 4).
    """

    at_iou: dict[float, float | None]
    average_recall: float | None
    MABO: float | None
    ABO: dict[str, float | None]

    def to_dict(self) -> RecallRow:
        """Convert to JSON-ready values; the recalls at IoU 0.5 and 0.7 are recall_50 and recall_70."""
        recalls = {f"recall_{round(100 * threshold)}": share for threshold, share in self.at_iou.items()}
        return {**recalls, "average_recall": self.average_recall, "MABO": self.MABO, "ABO": self.ABO}


@dataclass(frozen=True)
class ProposalRecall:
    """Recall of the proposals of a split; by_count: of the best 100, 300, ... of each image, by their number."""

    proposals_per_image: float | None
    by_count: dict[int, Recall]

    def to_dict(self) -> dict[str, float | RecallRow | None]:
        """Convert to JSON-ready values: a row by each count, beside proposals_per_image."""
        rows = {str(count): recall.to_dict() for count, recall in self.by_count.items()}
        return {"proposals_per_image": self.proposals_per_image, **rows}


def proposal_recall(
    proposals: Iterable[Boxes],
    ground_truth: GroundTruth,
    classes: Sequence[str],
    *,
    counts: Sequence[int] = (100, 300, 1000),
    iou_thresholds: Sequence[float] = (0.5, 0.7),
) -> ProposalRecall:
    """Compute recall of the best 100, 300, 1000 proposals of each image.

    proposals: for each image of `ground_truth`, in its order, boxes xyxy [P, 4] in original pixels, best first
    (array or tensor); may be a generator, nothing of it is kept. Difficult objects are left out.
    """
    asked = np.flatnonzero(~ground_truth.difficult)
    asked = asked[np.argsort(ground_truth.image[asked], kind="stable")]
    ends = np.searchsorted(ground_truth.image[asked], np.arange(ground_truth.num_images), side="right")
    best = np.zeros((len(counts), len(asked)))
    num_proposals, start, images = 0, 0, 0
    for boxes, end in zip(proposals, ends, strict=True):
        best[:, start:end] = best_overlap(boxes, ground_truth.boxes[asked[start:end]], counts)
        num_proposals, start, images = num_proposals + len(boxes), end, images + 1
    summary = summarise_recall(best, ground_truth.labels[asked], classes, counts=counts, iou_thresholds=iou_thresholds)
    return ProposalRecall(num_proposals / images if images else None, summary)


def best_overlap(proposals: Boxes, gt_boxes: NDArray[np.float64], counts: Sequence[int]) -> NDArray[np.float64]:
    """Find the highest IoU of each object with the first counts[k] of proposals [P, 4]: float64 [K, M], 0 if none."""
    boxes = np.ascontiguousarray(proposals, np.float64).reshape(-1, 4)
    order = np.argsort(counts)
    best = np.zeros((len(counts), len(gt_boxes)))
    best[order] = _running_best(boxes, np.asarray(gt_boxes, np.float64), np.asarray(counts, np.int64)[order])
    return best


def summarise_recall(
    best: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    counts: Sequence[int],
    iou_thresholds: Sequence[float],
) -> dict[int, Recall]:
    """Summarise the best IoU of each object, float64 [K, M], by its label, int64 [M]: for each of the K counts."""
    summary = {}
    for count, row in zip(counts, best, strict=True):
        abo = {name: _mean(row[labels == label]) for label, name in enumerate(classes)}
        summary[count] = Recall(
            at_iou={threshold: _mean(row >= threshold) for threshold in iou_thresholds},
            average_recall=_mean(row[:, None] >= AVERAGE_RECALL_IOUS),
            MABO=_mean(np.array([value for value in abo.values() if value is not None])),
            ABO=abo,
        )
    return summary


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if values.size else None


@jit
def _running_best(
    boxes: NDArray[np.float64], gt_boxes: NDArray[np.float64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    best = np.zeros((len(counts), len(gt_boxes)))
    for g in range(len(gt_boxes)):
        highest, p = 0.0, 0
        for k in range(len(counts)):  # ascending
            while p < min(counts[k], len(boxes)):
                highest = max(highest, overlap(boxes[p], gt_boxes[g], False))
                p += 1
            best[k, g] = highest
    return best
