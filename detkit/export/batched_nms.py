"""Suppress duplicates in a whole batch with outputs of fixed size, as an operator that ONNX has too.

Symbols: G groups with boxes of their own, D kinds of scores for the boxes of a group, N boxes of a group.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms

LOWEST = -3.0e38  # of a score that takes part: ONNX has a threshold for scores, which is 0 where it is left out


@torch.library.custom_op("detkit::survivors", mutates_args=())
def survivors(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Which boxes are left where of two that overlap by more than `iou` the one of the better score stays.

    boxes: float32 [G, N, 4] xyxy. scores: float32 [G, D, N]; each row is suppressed for itself, and a box with the
    score -inf takes no part in it. Returns bool [G, D, N].
    """
    group, row, index = torch.nonzero(scores > LOWEST, as_tuple=True)
    kept = batched_nms(boxes[group, index], scores[group, row, index], group * scores.shape[1] + row, iou)
    left = torch.zeros_like(scores, dtype=torch.bool)
    left[group[kept], row[kept], index[kept]] = True
    return left


@survivors.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def survivors_in_torch(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """`survivors` in operators that a traced program may have: no size is looked at, groups are laid side by side."""
    group, row, index = torch.nonzero(scores > LOWEST, as_tuple=True)
    place = (group * scores.shape[1] + row).to(boxes.dtype) * (boxes.abs().amax() + 1) * 2
    kept = torch.ops.torchvision.nms(boxes[group, index] + place[:, None], scores[group, row, index], iou)
    left = torch.zeros_like(scores, dtype=torch.bool)
    return left.index_put((group[kept], row[kept], index[kept]), left.new_ones(()))


def survivors_in_onnx(boxes: Any, scores: Any, iou: float) -> Any:
    """`survivors` in operators of ONNX, for the exporter's table of translations, which reads these annotations."""
    import numpy as np
    from onnxscript import opset18

    op: Any = opset18

    everything = op.Constant(value_ints=[np.iinfo(np.int64).max])
    chosen = op.NonMaxSuppression(  # int64 [S, 3] of group, row, index
        boxes, scores, everything, op.Constant(value_floats=[iou]), op.Constant(value_floats=[LOWEST])
    )
    true = op.Expand(op.Constant(value_ints=[1]), op.Shape(chosen, start=0, end=1))
    none = op.Expand(op.Constant(value_ints=[0]), op.Shape(scores))
    return op.Cast(op.ScatterND(none, chosen, true), to=9)  # 9 is bool
