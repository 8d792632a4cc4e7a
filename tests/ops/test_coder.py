"""The box coder against torchvision's and by its law."""

from __future__ import annotations

import torch
from torchvision.models.detection._utils import BoxCoder

from detkit.ops.coder import decode, encode


def boxes(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 100
    return torch.cat([corner, corner + 1 + torch.rand(count, 2) * 80], dim=1)


def test_equals_torchvision() -> None:
    gt, anchors = boxes(50), boxes(50)
    reference = BoxCoder(weights=(10, 10, 5, 5))
    std = (0.1, 0.1, 0.2, 0.2)
    assert torch.allclose(encode(gt, anchors, std), reference.encode_single(gt, anchors), atol=1e-5)
    deltas = torch.randn(50, 4) * 3
    assert torch.allclose(decode(deltas, anchors, std), reference.decode_single(deltas, anchors), rtol=1e-5, atol=1e-4)


def test_decode_undoes_encode() -> None:
    gt, anchors = boxes(50), boxes(50)
    assert torch.allclose(
        decode(encode(gt, anchors, (0.1, 0.2, 0.3, 0.4)), anchors, (0.1, 0.2, 0.3, 0.4)), gt, atol=1e-3
    )


def test_decode_broadcasts_over_classes_and_stays_finite() -> None:
    out = decode(torch.full((3, 5, 4), 1e4), boxes(3)[:, None])
    assert out.shape == (3, 5, 4) and out.isfinite().all()


def test_empty() -> None:
    assert encode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert decode(torch.zeros(0, 7, 4), torch.zeros(0, 1, 4)).shape == (0, 7, 4)
