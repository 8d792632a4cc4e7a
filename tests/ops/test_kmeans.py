from __future__ import annotations

import torch

from detkit.ops.kmeans import best_iou, fit_shapes


def clouds(centres: list[list[float]], count: int = 60) -> torch.Tensor:
    """Shapes within a tenth of each of the centres."""
    torch.manual_seed(0)
    spread = 1 + 0.1 * (2 * torch.rand(len(centres), count, 2) - 1)
    return (torch.tensor(centres)[:, None] * spread).reshape(-1, 2)


def test_separate_clouds_are_found() -> None:
    centres = [[10.0, 20.0], [40.0, 15.0], [60.0, 90.0], [300.0, 200.0]]
    anchors = fit_shapes(clouds(centres), 4)
    assert torch.allclose(anchors, torch.tensor(centres).double(), rtol=0.03)


def test_iou_not_size_is_what_counts() -> None:
    """In plain distance the large shapes would take all anchors; alike in IoU are those of one ratio."""
    shapes = torch.cat([clouds([[4.0, 4.0], [12.0, 12.0]], 40), clouds([[400.0, 400.0], [440.0, 440.0]], 40)])
    anchors = fit_shapes(shapes, 3)
    assert (anchors[:, 0] < 20).sum() == 2


def test_same_seed_same_anchors_and_no_worse_with_more() -> None:
    torch.manual_seed(1)
    shapes = torch.rand(500, 2) * 200 + 2
    assert torch.equal(fit_shapes(shapes, 5, seed=3), fit_shapes(shapes, 5, seed=3))
    means = [float(best_iou(shapes.double(), fit_shapes(shapes, k))[0].mean()) for k in (1, 3, 9)]
    assert means == sorted(means) and means[2] > 0.65


def test_as_many_anchors_as_shapes_fit_perfectly() -> None:
    shapes = torch.tensor([[5.0, 5.0], [10.0, 40.0], [80.0, 20.0]])
    assert best_iou(shapes.double(), fit_shapes(shapes, 3))[0].min() > 0.999
    assert fit_shapes(shapes[:1], 3).shape == (3, 2)
