"""R-CNN's SVMs and box regressors from two passes over a data set (Girshick et al. 2014, section 2.3, appendix C).

The first pass, over the ground truths and a sample of proposals, gives the positives and the scale of the features;
the second, over all regions, the negatives and the sums of the regressions. No image's features are kept but those of
positives and of hard negatives.

Symbols: N regions of an image, C classes, D features that the SVMs read, E that the regressors read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from detkit.engine.examples import spread
from detkit.engine.hard_negatives import MinedSVM, SVMSettings
from detkit.engine.region_stream import ImageRegions
from detkit.ops.ridge import RidgeSums
from detkit.ops.svm_sample import box_examples, svm_negatives

SCALE_IMAGES, SCALE_PROPOSALS = 200, 32  # whose features have the mean norm that is measured

Stream = Callable[..., Iterator[ImageRegions]]  # description=..., most=... of `stream_regions`


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

    split: (D, E). feature_norm: mean norm to which the features of the SVMs are scaled. negative_iou: as `below` of
    `svm_negatives`. box_iou: as `from_iou` of `box_examples`. penalty: of the regressions.
    """
    positives, scale = first_pass(stream, num_images, num_classes, split[0], feature_norm)
    miners = [MinedSVM(rows, svm) for rows in positives]
    boxes = [RidgeSums(num_features=split[1], num_targets=4) for _ in range(num_classes if split[1] > 0 else 0)]
    for regions in stream(description="regions", most=None):
        features = regions.features.cpu()
        scored, placed = (features[:, : split[0]] * scale).numpy(), features[:, split[0] :]
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
        weights, biases = zip(*(sums.solve(penalty) for sums in boxes), strict=True)
        fitted |= {"delta.weight": torch.cat(weights), "delta.bias": torch.cat(biases)}
        samples = [known | {"box examples": sums.count} for known, sums in zip(samples, boxes, strict=True)]
    return fitted, samples


def first_pass(
    stream: Stream, num_images: int, num_classes: int, num_features: int, feature_norm: float
) -> tuple[list[np.ndarray], float]:
    """Per class the scaled features of its objects, float32 [P, D], and the scale that gives them the wanted norm."""
    positives: list[list[Tensor]] = [[] for _ in range(num_classes)]
    norms: list[Tensor] = []
    for regions in stream(description="objects", most=dict.fromkeys(spread(num_images, SCALE_IMAGES), SCALE_PROPOSALS)):
        features = regions.features[:, :num_features].cpu()
        norms.append(features[: regions.num_proposals].norm(dim=1))
        labels = regions.target["labels"][~regions.target["difficult"]].cpu()
        for label in labels.unique().tolist():
            positives[label].append(features[regions.num_proposals :][labels == label])
    norm = torch.cat(norms).mean().item() if sum(map(len, norms)) else 0.0
    scale = feature_norm / norm if norm > 0 else 1.0
    nothing = torch.zeros(0, num_features)
    return [(torch.cat([nothing, *rows]) * scale).numpy() for rows in positives], scale
