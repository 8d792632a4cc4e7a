"""Fit a linear support vector machine by dual coordinate descent (Hsieh et al., ICML 2008, algorithm 1).

minimise over (w, v):  |w|^2 / 2 + v^2 / 2 + sum_i C_i max(0, 1 - y_i (w . x_i + v b))

Symbols: N samples x_i of D features and sign y_i, C_i the cost of a sample, b the constant feature of the bias,
alpha_i in [0, C_i] the dual variables; w = sum_i alpha_i y_i x_i at every moment.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detkit.core.jit import jit


class LinearSVM(NamedTuple):
    """weight: float64 [D]; bias: added to weight . x; alpha: float64 [N], to start from another time."""

    weight: NDArray[np.float64]
    bias: float
    alpha: NDArray[np.float64]

    def margins(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Signed distance to the boundary in units of the margin, [N]: positive for the class."""
        return features @ self.weight + self.bias


def fit_linear_svm(
    features: NDArray[np.float32],
    positive: NDArray[np.bool_],
    *,
    cost: float,
    positive_weight: float = 1.0,
    bias_feature: float = 1.0,
    start: NDArray[np.float64] | None = None,
    tolerance: float = 1e-3,
    max_epochs: int = 1000,
    seed: int = 0,
) -> LinearSVM:
    """The SVM of features [N, D] and which of them are positive, bool [N].

    cost: C of a negative sample; `positive_weight` times that of a positive one. bias_feature: b. start: alpha of
    the samples as an earlier fit left them. tolerance: of the violation of the optimality conditions, in margins.
    """
    sign = np.where(positive, 1.0, -1.0)
    limit = np.where(positive, cost * positive_weight, cost)
    alpha = np.zeros(len(sign)) if start is None else start.astype(np.float64)
    weight = np.append((alpha * sign) @ features.astype(np.float64), (alpha * sign).sum() * bias_feature)
    order = np.arange(len(sign))
    random = np.random.default_rng(seed)
    for _ in range(max_epochs):
        random.shuffle(order)
        if _sweep(features, sign, limit, alpha, weight, bias_feature, order) < tolerance:
            break
    return LinearSVM(weight[:-1], float(weight[-1] * bias_feature), alpha)


@jit
def _sweep(
    features: NDArray[np.float32],
    sign: NDArray[np.float64],
    limit: NDArray[np.float64],
    alpha: NDArray[np.float64],
    weight: NDArray[np.float64],
    bias_feature: float,
    order: NDArray[np.int64],
) -> float:
    """Set each alpha to its best value given the others, in order, in place; returns the largest violation met."""
    size = features.shape[1]
    worst = 0.0
    for i in order:
        dot, square = weight[size] * bias_feature, bias_feature * bias_feature
        for d in range(size):
            dot += weight[d] * features[i, d]
            square += features[i, d] * features[i, d]
        gradient = sign[i] * dot - 1.0
        if (alpha[i] <= 0 and gradient >= 0) or (alpha[i] >= limit[i] and gradient <= 0) or square <= 0:
            continue
        worst = max(worst, abs(gradient))
        before = alpha[i]
        alpha[i] = min(max(before - gradient / square, 0.0), limit[i])
        step = (alpha[i] - before) * sign[i]
        weight[size] += step * bias_feature
        for d in range(size):
            weight[d] += step * features[i, d]
    return worst
