"""Cap the detections per class over a whole test set, as R-CNN's test does (rbgirshick/rcnn, rcnn_test.m)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from detkit.metric.records import Predictions

# Symbols: R regions of an image, C classes, K candidates of an image and class.


@contextmanager
def watched_candidates(detector: nn.Module) -> Iterator[list[Tensor]]:
    """Inside the block the list gets the scores of the candidates of each image that the detector's postprocess sees.

    float32 [K, C] on the CPU, filled up with -inf: of each class those above its `score_threshold`, at most
    `max_candidates`. It stays empty where the postprocess has no `set_candidates`.
    """
    postprocess: Any = getattr(detector, "postprocess", None)
    seen: list[Tensor] = []
    if getattr(postprocess, "set_candidates", None) is None:
        yield seen
        return

    def note(_: nn.Module, inputs: Any) -> None:
        for scores in inputs[1]:
            known = scores.float().masked_fill(scores <= postprocess.score_threshold, -torch.inf)
            most = len(known) if postprocess.max_candidates is None else min(postprocess.max_candidates, len(known))
            seen.append(known.topk(most, dim=0).values.cpu())

    hook = postprocess.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


def cap_over_set(predictions: Predictions, candidates: Sequence[Tensor], per_image: int) -> Predictions:
    """Without those whose score is not among the best `per_image` x images of the candidates of their class.

    candidates: of `watched_candidates`, of all images. R-CNN counts before suppression and so does this; who is
    suppressed depends on better boxes alone, so that it may come first.
    """
    if not candidates:
        return predictions
    pooled = torch.cat(list(candidates))  # [all K, C]
    most = per_image * len(candidates)
    lowest = pooled.topk(most, dim=0).values[-1] if len(pooled) > most else torch.full(pooled.shape[1:], -torch.inf)
    return predictions.select(predictions.scores >= lowest.double().numpy()[predictions.labels])
