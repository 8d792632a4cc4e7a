"""Ridge regression from sums and from few samples, against R-CNN's way with whitened targets."""

from __future__ import annotations

import pytest
import torch

from detkit.svm.ridge import RidgeRegression


def whitened(x: torch.Tensor, y: torch.Tensor, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets centred and whitened, regressed one by one with a bias column, then taken back."""
    x, y = torch.cat([x, torch.ones(len(x), 1)], dim=1).double(), y.double()
    mean = y.mean(dim=0)
    values, vectors = torch.linalg.eigh((y - mean).T @ (y - mean) / len(y))
    whiten, colour = (vectors @ torch.diag(values**power) @ vectors.T for power in (-0.5, 0.5))
    targets = (y - mean) @ whiten
    columns = [
        torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=torch.float64), x.T @ column)
        for column in targets.T
    ]
    solution = torch.stack(columns, dim=1) @ colour
    return solution[:-1].T.float(), (solution[-1] + mean).float()


def test_equals_the_closed_form_on_whitened_targets() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 7) + 1
    y = x[:, :4] @ torch.randn(4, 4) + 0.3 * torch.randn(200, 4) + torch.tensor([5.0, 0, -2, 1])
    regression = RidgeRegression(num_features=7, num_targets=4)
    for part in (slice(0, 3), slice(3, 3), slice(3, 150), slice(150, 200)):
        regression.add(x[part], y[part])
    assert regression.kept is None
    for got, want in zip(regression.solve(30.0), whitened(x, y, 30.0), strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_equals_the_closed_form_while_there_are_fewer_samples_than_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detkit.svm.ridge.COLUMNS", 16)
    torch.manual_seed(0)
    x, y = torch.randn(20, 50) + 1, torch.randn(20, 4) + torch.tensor([5.0, 0, -2, 1])
    regression = RidgeRegression(num_features=50, num_targets=4)
    regression.add(x[:12], y[:12])
    regression.add(x[12:], y[12:])
    assert regression.gram.numel() == 0  # nothing of the size of features x features
    for got, want in zip(regression.solve(3.0), whitened(x, y, 3.0), strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_without_samples_nothing_is_moved() -> None:
    weight, bias = RidgeRegression(num_features=3, num_targets=4).solve(1000)
    assert weight.shape == (4, 3) and not weight.any() and not bias.any()
