"""State dicts of torchvision's detectors under the names of detkit's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from detkit.errors import UserError

_FASTER_RCNN = [  # (theirs, ours), tried in order
    (r"backbone\.body\.(conv1|bn1)\.", r"backbone.stem.\1."),
    (r"backbone\.body\.", r"backbone."),
    (r"backbone\.fpn\.", r"neck.pyramid."),
    (r"rpn\.head\.conv\.0\.0\.", r"proposer.head.conv.0."),
    (r"rpn\.head\.cls_logits\.", r"proposer.head.objectness."),
    (r"rpn\.head\.bbox_pred\.", r"proposer.head.delta."),
    (r"roi_heads\.box_head\.", r"roi_head.tail."),
    (r"roi_heads\.box_predictor\.cls_score\.", r"roi_head.predictor.logit."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", r"roi_head.predictor.delta."),
]


def convert_faster_rcnn(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `fasterrcnn_resnet50_fpn` for `model=faster_rcnn_fpn`.

    Their class k is our class k - 1: both keep background in column 0 of the logits, but theirs regresses a box for
    background too, whose four rows are dropped. Raises UserError for a key that the model does not have.
    """
    converted = {}
    for name, value in state.items():
        ours = _rename(name)
        converted[ours] = value[4:] if ours.startswith("roi_head.predictor.delta.") else value
    return converted


def _rename(name: str) -> str:
    for theirs, ours in _FASTER_RCNN:
        if re.match(theirs, name):
            return re.sub(theirs, ours, name, count=1)
    raise UserError(f"{name} is no weight of torchvision's fasterrcnn_resnet50_fpn")
