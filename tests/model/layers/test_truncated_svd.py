"""Thin layers approximate as well as any of their rank."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from detkit.model.layers.truncated_svd import truncated_svd


def test_full_rank_changes_nothing_and_less_errs_by_what_is_left_out() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(30, 20)
    x = torch.randn(50, 30)
    assert torch.allclose(truncated_svd(layer, 99)(x), layer(x), atol=1e-5)
    thin, wide = truncated_svd(layer, 5)
    assert thin.weight.shape == (5, 30) and wide.weight.shape == (20, 5)  # type: ignore[union-attr]
    error = (wide.weight @ thin.weight - layer.weight).detach().numpy()  # type: ignore[operator]
    left_out = np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)[5:]
    np.testing.assert_allclose(np.linalg.norm(error), np.linalg.norm(left_out), rtol=1e-5)  # Eckart and Young
