"""The limits of R-CNN's test, against its own way: image by image, with thresholds that rise as candidates come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import nms

from detkit.core.structures import Batch
from detkit.image.preprocess import Warp
from detkit.metric.records import Predictions
from detkit.model.postprocess import NMSPostprocess
from detkit.task.detection.set_cap import cap_over_set, watched_candidates

CLASSES, SIZE = 3, (100, 100)


class Detector(nn.Module):
    def __init__(self, **settings: object) -> None:
        super().__init__()
        settings = {"score_threshold": 0.0, "nms_iou": 0.3, "max_candidates": 6, "max_detections": None} | settings
        self.postprocess = NMSPostprocess(**settings)  # type: ignore[arg-type]


def images(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(boxes [R, 1, 4], scores [R, C]) of each, all scores different; the last image has one region."""
    torch.manual_seed(0)
    found = []
    for index in range(count):
        regions = 1 if index == count - 1 else 40
        corner = 60 * torch.rand(regions, 2)
        found.append(
            (torch.cat([corner, corner + 20 + 20 * torch.rand(regions, 2)], 1)[:, None], torch.rand(regions, CLASSES))
        )
    return found


def predicted(detector: Detector, data: list) -> tuple[Predictions, list[torch.Tensor]]:
    warp, found = Warp(height=SIZE[0], width=SIZE[1]), []
    with watched_candidates(detector) as candidates:
        for boxes, scores in data:
            batch = Batch(torch.zeros(1, 3, *SIZE, dtype=torch.uint8), [SIZE], [SIZE], ["x"])
            found += detector.postprocess([boxes], [scores], batch, warp)
    return Predictions.from_detections(found), candidates


def as_published(data: list, per_image: int, per_set: int) -> set[tuple[int, int, float]]:
    """(image, class, score) of what is left: candidates under a rising threshold, pruned, then suppressed."""
    threshold, best = [-np.inf] * CLASSES, [np.zeros(0) for _ in range(CLASSES)]
    counts, kept = [0] * CLASSES, {}
    for image, (_, scores) in enumerate(data):
        for label in range(CLASSES):
            column = scores[:, label].numpy()
            chosen = np.flatnonzero(column > threshold[label])
            chosen = chosen[np.argsort(-column[chosen])][:per_image]
            kept[image, label] = chosen
            counts[label] += len(chosen)
            best[label] = -np.sort(-np.concatenate([best[label], column[chosen]]))
            if counts[label] > per_set:
                best[label] = best[label][:per_set]
                threshold[label] = best[label][-1]
    left = set()
    for (image, label), chosen in kept.items():
        boxes, scores = data[image]
        good = chosen[scores[chosen, label].numpy() >= threshold[label]]
        survivors = good[nms(boxes[good, 0], scores[good, label], 0.3).numpy()]
        left |= {(image, label, float(scores[index, label])) for index in survivors}
    return left


@pytest.mark.parametrize("per_set", [1, 2, 5, 6])
def test_what_is_left_of_a_set_is_what_the_published_test_leaves(per_set: int) -> None:
    data = images(7)
    found, candidates = predicted(Detector(set_candidates=per_set), data)
    assert len(candidates) == 7
    left = cap_over_set(found, candidates, per_set)
    assert (len(left) < len(found)) == (per_set < 6)  # six candidates of six images are no more than 6 x 7
    columns = zip(left.image.tolist(), left.labels.tolist(), left.scores.tolist(), strict=True)
    assert set(columns) == as_published(data, 6, per_set * 7)


def test_a_detector_without_the_limit_is_not_watched() -> None:
    found, candidates = predicted(Detector(), images(3))
    assert candidates == [] and cap_over_set(found, candidates, 1) is found
    assert found.labels.tolist().count(0) <= 2 * 6 + 1  # six of each class and image, none of 100 over all


def test_scores_below_the_threshold_are_no_candidates() -> None:
    _, candidates = predicted(Detector(score_threshold=0.5, set_candidates=1), images(3))
    assert all(((scores > 0.5) | (scores == -torch.inf)).all() for scores in candidates)
