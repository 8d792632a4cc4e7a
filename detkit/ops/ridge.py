"""Ridge regression from sums over its samples, which need not be kept (R-CNN, appendix C)."""

from __future__ import annotations

import torch
from torch import Tensor

# Symbols: N samples, D features, T targets.


class RidgeSums:
    """Linear regression with a penalty on the weights, of samples that arrive in parts: memory for D x D numbers.

    R-CNN whitens its targets: it subtracts their mean and multiplies by the inverse root of their covariance, and
    undoes both afterwards. Under one penalty for all targets the second cancels out (the weights are linear in the
    targets), so only the mean is needed here.
    """

    def __init__(self, *, num_features: int, num_targets: int, device: torch.device | str = "cpu") -> None:
        size = num_features + 1  # a column of ones for the bias
        self.gram = torch.zeros(size, size, dtype=torch.float64, device=device)
        self.cross = torch.zeros(size, num_targets, dtype=torch.float64, device=device)
        self.total = torch.zeros(num_targets, dtype=torch.float64, device=device)
        self.count = 0

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Count in samples: features [N, D], targets [N, T]; N may be 0."""
        x = torch.cat([features, features.new_ones(len(features), 1)], dim=1).double()
        y = targets.double()
        self.gram.addmm_(x.T, x)
        self.cross.addmm_(x.T, y)
        self.total += y.sum(dim=0)
        self.count += len(features)

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Weight float32 [T, D] and bias [T]: targets = features @ weight.T + bias. Zeros where there was no sample.

        penalty: the lambda on squared weights, and on the bias of centred targets as R-CNN has it.
        """
        mean = self.total / max(self.count, 1)
        system = self.gram + penalty * torch.eye(len(self.gram), dtype=torch.float64, device=self.gram.device)
        right = self.cross - self.gram[:, -1:] * mean  # the last column of the gram is the sum of the features
        solution = torch.cholesky_solve(right, torch.linalg.cholesky(system))
        return solution[:-1].T.float().contiguous(), (solution[-1] + mean).float()
