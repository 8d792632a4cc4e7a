"""Truncated SVD: a fully connected layer as the product of two thin ones."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def truncated_svd(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Approximate `layer`, out x in, at this rank by two layers: in -> rank -> out (Fast R-CNN, section 3.1).

    W ~ U_t (S_t V_t^T): the first layer is S_t V_t^T without bias, the second U_t with that of `layer`. It has
    rank (in + out) weights instead of in x out. rank: at most min(in, out); a larger one is cut to it.
    """
    left, scale, right = torch.linalg.svd(layer.weight, full_matrices=False)
    rank = min(rank, len(scale))
    thin = nn.Linear(layer.in_features, rank, bias=False)
    wide = nn.Linear(rank, layer.out_features)
    thin.weight.copy_(scale[:rank, None] * right[:rank])
    wide.weight.copy_(left[:, :rank])
    wide.bias.copy_(layer.bias)
    return nn.Sequential(thin, wide)
