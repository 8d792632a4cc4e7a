"""Fit an SVM with hard negative mining over a stream too long for memory (R-CNN, section 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detkit.svm.linear_svm import LinearSVM, fit_linear_svm


@dataclass(frozen=True, kw_only=True)
class SVMSettings:
    """cost, positive_weight, bias_feature: as in `fit_linear_svm`. add_above: a negative is kept where its margin is
    above this; evict_below: and let go after a fit that puts it below this. refit_every: additions between two fits.
    """

    cost: float = 1e-3
    positive_weight: float = 2.0
    bias_feature: float = 10.0
    add_above: float = -1.0001
    evict_below: float = -1.2
    refit_every: int = 2000


class MinedSVM:
    """The SVM of one class, fitted again whenever enough negatives have come that it does not yet put aside."""

    def __init__(self, positives: NDArray[np.float32], settings: SVMSettings) -> None:
        self.settings = settings
        self.positives = positives
        self.negatives = positives[:0]
        self.alpha = np.zeros(len(positives))  # of the positives, then of the negatives
        self.svm: LinearSVM | None = None
        self.waiting: list[NDArray[np.float32]] = []

    def add(self, negatives: NDArray[np.float32]) -> None:
        """Look at negatives [N, D] and keep the hard ones; of the first to come, which no SVM has judged, all."""
        if len(negatives) == 0 or len(self.positives) == 0:
            return
        if self.svm is not None:
            negatives = negatives[self.svm.margins(negatives) > self.settings.add_above]
        self.waiting.append(negatives)
        if self.svm is None or sum(map(len, self.waiting)) >= self.settings.refit_every:
            self._fit()

    def finish(self) -> tuple[NDArray[np.float64], float]:
        """Weight [D] and bias. Without a positive the bias is minus infinity: the class is never found."""
        if len(self.positives) == 0:
            return np.zeros(self.positives.shape[1]), -np.inf
        if self.svm is None or any(map(len, self.waiting)):
            self._fit()
        assert self.svm is not None
        return self.svm.weight, self.svm.bias

    def _fit(self) -> None:
        added = sum(map(len, self.waiting))
        self.negatives = np.concatenate([self.negatives, *self.waiting])
        self.waiting = []
        features = np.concatenate([self.positives, self.negatives])
        positive = np.arange(len(features)) < len(self.positives)
        s = self.settings
        self.svm = fit_linear_svm(
            features,
            positive,
            cost=s.cost,
            positive_weight=s.positive_weight,
            bias_feature=s.bias_feature,
            start=np.append(self.alpha, np.zeros(added)),
        )
        keep = positive | (self.svm.margins(features) >= s.evict_below)
        self.alpha = self.svm.alpha[keep]
        self.negatives = self.negatives[keep[len(self.positives) :]]
