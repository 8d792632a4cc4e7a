"""Fit R-CNN's SVMs and box regressors in two passes over a data set (R-CNN, section 2.3, appendix C).

The first pass, over the ground truths and a sample of proposals, gives the positives and the scales of the features;
the second, over all regions, the negatives and what the regressions learn from. Of an image's features those of
positives and hard negatives are kept, and of examples of the regressions while there are fewer of these than features.

Symbols: N regions of an image, C classes, D features that the SVMs read, E that the regressors read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.evaluate.draw_examples import spread
from detkit.svm.hard_negatives import MinedSVM, SVMSettings
from detkit.svm.region_stream import ImageRegions
from detkit.svm.ridge import RidgeRegression
from detkit.svm.svm_sample import box_examples, svm_negatives

SCALE_IMAGES, SCALE_PROPOSALS = 200, 32  # whose features have the mean norm that is measured


class Stream(Protocol):
    """`stream_regions` of a detector and a split."""

    def __call__(self, *, description: str, most: Mapping[int, int] | None) -> Iterator[ImageRegions]: ...


def fit_boxes_and_svms(
    stream: Stream,
    *,
    num_images: int,
    num_classes: int,
    split: tuple[int, int],
    svm: SVMSettings,
    feature_norm: float,
    negative_iou: float,
    box_iou: float,
    penalty: float,
) -> tuple[dict[str, Tensor], list[dict[str, int]]]:
    """The weights of an `SVMPredictor`, and per class how many samples they come from.

    split: (D, E). feature_norm: mean norm to which both kinds of features are scaled, as `svm.cost` and `penalty`, that
    of the regressions, are for features of a norm. negative_iou: as `below` of `svm_negatives`. box_iou: as `from_iou`
    of `box_examples`.
    """
    positives, (scale, box_scale) = first_pass(stream, num_images, num_classes, split, feature_norm)
    miners = [MinedSVM(rows, svm) for rows in positives]
    boxes = [RidgeRegression(num_features=split[1], num_targets=4) for _ in range(num_classes if split[1] > 0 else 0)]
    for regions in stream(description="regions", most=None):
        features = regions.features.cpu()
        scored, placed = (features[:, : split[0]] * scale).numpy(), features[:, split[0] :] * box_scale
        target, proposals = regions.target, regions.boxes[: regions.num_proposals]
        for label in range(num_classes):
            own = target["labels"] == label
            gt_boxes, difficult = target["boxes"][own], target["difficult"][own]
            negative = svm_negatives(regions.boxes, gt_boxes, difficult, below=negative_iou).cpu()
            miners[label].add(scored[negative.numpy()])
            if boxes:
                near, offsets = box_examples(proposals, gt_boxes[~difficult], from_iou=box_iou)
                boxes[label].add(placed[near.cpu()], offsets.cpu())

    weight, bias = zip(*(miner.finish() for miner in miners), strict=True)
    fitted = {
        "margin.weight": torch.from_numpy(np.stack(weight) * scale).float(),
        "margin.bias": torch.tensor(bias, dtype=torch.float32),
    }
    samples = [{"objects": len(miner.positives), "hard negatives": len(miner.negatives)} for miner in miners]
    if boxes:
        weights, biases = zip(*(regression.solve(penalty) for regression in boxes), strict=True)
        fitted |= {"delta.weight": torch.cat(weights) * box_scale, "delta.bias": torch.cat(biases)}
        samples = [known | {"box examples": own.count} for known, own in zip(samples, boxes, strict=True)]
    return fitted, samples


def first_pass(
    stream: Stream, num_images: int, num_classes: int, split: tuple[int, int], feature_norm: float
) -> tuple[list[NDArray[np.float32]], tuple[float, float]]:
    """Per class the scaled features of its objects, float32 [P, D], and the scales that give the wanted mean norm.

    split: (D, E), each with a scale of its own.
    """
    positives: list[list[Tensor]] = [[] for _ in range(num_classes)]
    norms: list[Tensor] = []  # [N, 2]
    for regions in stream(description="objects", most=dict.fromkeys(spread(num_images, SCALE_IMAGES), SCALE_PROPOSALS)):
        both = regions.features.cpu().split(split, dim=1)
        norms.append(torch.stack([features[: regions.num_proposals].norm(dim=1) for features in both], dim=1))
        labels = regions.target["labels"][~regions.target["difficult"]].cpu()
        for label in labels.unique().tolist():
            positives[label].append(both[0][regions.num_proposals :][labels == label])
    scale, box_scale = (feature_norm / norm if norm > 0 else 1.0 for norm in torch.cat(norms).mean(dim=0).tolist())
    nothing = torch.zeros(0, split[0])
    return [(torch.cat([nothing, *rows]) * scale).numpy() for rows in positives], (scale, box_scale)
