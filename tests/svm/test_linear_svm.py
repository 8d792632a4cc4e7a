"""The SVM against another optimiser, and mining against a fit on everything."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from detkit.svm.hard_negatives import MinedSVM, SVMSettings
from detkit.svm.linear_svm import fit_linear_svm


def clouds(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds of points that overlap a little, a tenth of them positive."""
    rng = np.random.default_rng(seed)
    positive = np.arange(count) < count // 10
    return (rng.normal(size=(count, size)) + np.where(positive, 0.9, -0.3)[:, None]).astype(np.float32), positive


@pytest.mark.parametrize(("cost", "positive_weight", "bias_feature"), [(1e-3, 2.0, 10.0), (0.1, 1.0, 1.0), (1, 5, 3)])
def test_equals_the_optimum_of_the_dual(cost: float, positive_weight: float, bias_feature: float) -> None:
    features, positive = clouds(80, 5)
    x = np.c_[features.astype(np.float64), np.full(80, bias_feature)] * np.where(positive, 1, -1)[:, None]
    limits = np.where(positive, cost * positive_weight, cost)
    found = minimize(
        lambda a: (0.5 * (a @ x) @ (a @ x) - a.sum(), x @ (a @ x) - 1), np.zeros(80), jac=True, method="L-BFGS-B",
        bounds=[(0, limit) for limit in limits], options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 20_000},
    )  # fmt: skip
    want = found.x @ x
    got = fit_linear_svm(
        features, positive, cost=cost, positive_weight=positive_weight, bias_feature=bias_feature, tolerance=1e-6,
        max_epochs=100_000,
    )  # fmt: skip
    assert np.allclose(np.append(got.weight, got.bias / bias_feature), want, atol=1e-4)
    assert np.allclose(got.margins(features), features @ want[:-1] + want[-1] * bias_feature, atol=1e-3)
    assert ((got.alpha >= 0) & (got.alpha <= limits)).all()


def test_starts_from_an_earlier_solution() -> None:
    features, positive = clouds(300, 8)
    cold = fit_linear_svm(features, positive, cost=0.01, tolerance=1e-6)
    warm = fit_linear_svm(features, positive, cost=0.01, tolerance=1e-6, start=cold.alpha, max_epochs=1)
    assert np.allclose(warm.weight, cold.weight, atol=1e-6)


def test_mining_finds_the_svm_of_all_negatives_with_few_of_them() -> None:
    features, positive = clouds(4000, 8)
    features *= 6
    settings = SVMSettings(refit_every=150)
    mined = MinedSVM(features[positive], settings)
    for part in np.array_split(features[~positive], 40):
        mined.add(part)
    weight, bias = mined.finish()
    whole = fit_linear_svm(features, positive, cost=settings.cost, positive_weight=2.0, bias_feature=10.0)
    assert len(mined.negatives) < 0.8 * (~positive).sum()
    margins = features @ weight + bias
    assert np.abs(margins - whole.margins(features)).max() < 0.05


def test_what_is_kept_follows_the_margins() -> None:
    features, positive = clouds(1000, 4)
    features *= 10
    mined = MinedSVM(features[positive], SVMSettings(refit_every=10_000))
    first, rest = np.array_split(features[~positive], 2)
    mined.add(first)
    assert mined.svm is not None
    kept = mined.svm.margins(mined.negatives)
    assert (kept >= -1.2).all() and len(kept) == (mined.svm.margins(first) >= -1.2).sum()
    mined.add(rest)
    assert sum(map(len, mined.waiting)) == (mined.svm.margins(rest) > -1.0001).sum()


def test_a_class_without_objects_is_never_found() -> None:
    mined = MinedSVM(np.zeros((0, 3), np.float32), SVMSettings())
    mined.add(np.ones((5, 3), np.float32))
    weight, bias = mined.finish()
    assert weight.shape == (3,) and bias == -np.inf
    lonely = MinedSVM(np.ones((2, 3), np.float32), SVMSettings())
    assert np.isfinite(lonely.finish()[1])
