"""Solve ridge regressions whose samples arrive in parts (R-CNN, appendix C)."""

from __future__ import annotations

import torch
from torch import Tensor

# Symbols: N samples, D features, T targets.
COLUMNS = 4096  # features that are in double precision at once


class RidgeRegression:
    """Linear regression with a penalty on the weights, in memory for min(N, D) x D numbers.

    As long as there are fewer samples than features they are kept, and N equations solved in place of D: the weights
    are X'(XX' + lambda)^-1 Y = (X'X + lambda)^-1 X'Y. From then on their sums X'X and X'Y are enough.

    R-CNN whitens its targets: it subtracts their mean and multiplies by the inverse root of their covariance, and
    undoes both afterwards. Under one penalty for all targets the second cancels out (the weights are linear in the
    targets), so only the mean is needed here.
    """

    def __init__(self, *, num_features: int, num_targets: int, device: torch.device | str = "cpu") -> None:
        self.size = num_features + 1  # a column of ones for the bias
        self.kept: list[Tensor] | None = []  # samples, float32 [N, D + 1]; None once they are in the sums
        self.targets: list[Tensor] = []
        self.gram = torch.zeros(0, 0, dtype=torch.float64, device=device)
        self.cross = torch.zeros(0, num_targets, dtype=torch.float64, device=device)
        self.total = torch.zeros(num_targets, dtype=torch.float64, device=device)
        self.count = 0

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Add samples: features [N, D], targets [N, T]; N may be 0."""
        x = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
        self.total += targets.double().sum(dim=0)
        self.count += len(features)
        if self.kept is None:
            self._sum_up(x, targets)
            return
        self.kept.append(x)
        self.targets.append(targets.double())
        if self.count >= self.size:
            self.gram = self.gram.new_zeros(self.size, self.size)
            self.cross = self.cross.new_zeros(self.size, self.cross.shape[1])
            for rows, own in zip(self.kept, self.targets, strict=True):
                self._sum_up(rows, own)
            self.kept, self.targets = None, []

    def _sum_up(self, x: Tensor, targets: Tensor) -> None:
        x = x.double()
        self.gram.addmm_(x.T, x)
        self.cross.addmm_(x.T, targets.double())

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Solve for weight float32 [T, D] and bias [T]: targets = features @ weight.T + bias; zeros without samples.

        penalty: the lambda on squared weights, and on the bias of centred targets as R-CNN has it.
        """
        mean = self.total / max(self.count, 1)
        if self.kept is None:
            right = self.cross - self.gram[:, -1:] * mean  # the last column of the gram is the sum of the features
            solution = _solve(self.gram, penalty, right)
        else:
            x = torch.cat([*self.kept, mean.new_zeros(0, self.size, dtype=torch.float32)])
            y = torch.cat([*self.targets, self.cross[:0]]) - mean
            kernel = mean.new_zeros(len(x), len(x))
            for part in x.split(COLUMNS, dim=1):
                kernel.addmm_(part.double(), part.double().T)
            dual = _solve(kernel, penalty, y)
            solution = torch.cat([part.double().T @ dual for part in x.split(COLUMNS, dim=1)])
        return solution[:-1].T.float().contiguous(), (solution[-1] + mean).float()


def _solve(system: Tensor, penalty: float, right: Tensor) -> Tensor:
    diagonal = torch.eye(len(system), dtype=system.dtype, device=system.device) * penalty
    return torch.cholesky_solve(right, torch.linalg.cholesky(system + diagonal))
