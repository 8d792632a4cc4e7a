"""IoU-based box losses (GIoU, DIoU, CIoU), selected by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from detkit.core.errors import UserError

IoULoss = Callable[[Tensor, Tensor], Tensor]  # boxes [P, 4] xyxy, found and wanted, to [P]
IOU_LOSSES: dict[str, IoULoss] = {
    "giou": generalized_box_iou_loss,  # Rezatofighi et al. 2019
    "diou": distance_box_iou_loss,  # Zheng et al. 2020
    "ciou": complete_box_iou_loss,  # the same
}


def iou_loss(box_loss: str, *, offsets: str) -> IoULoss | None:
    """Return the loss named `box_loss`; None for `offsets`, the head's own loss. Raises UserError for other names."""
    if box_loss == offsets:
        return None
    if box_loss not in IOU_LOSSES:
        raise UserError(f"model.dense_head.box_loss={box_loss}: choose {offsets}, {', '.join(IOU_LOSSES)}")
    return IOU_LOSSES[box_loss]
