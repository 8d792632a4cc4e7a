"""Head of [Gaussian_yolo] sections: YOLO v3 with the uncertainty of each coordinate (Choi et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from detkit.core.structures import Batch
from detkit.model.darknet.section import Section
from detkit.model.darknet.yolo import YoloHead
from detkit.model.dense_head.yolo_v1 import canvas_size

MEANS, DEVIATIONS = slice(0, 8, 2), slice(1, 8, 2)  # of x, y, w, h, in turn; objectness and classes follow


class GaussianYoloHead(YoloHead):
    """YOLO v3 head on rows of 9 + C numbers: mean and deviation of x, y, w and h, objectness, classes.

    Deviations are sigmoids; a score is objectness * class * (1 - the mean of the four deviations).
    """

    others = 9

    def __init__(self, *, sections: Sequence[Section], num_classes: int, revision: int) -> None:
        super().__init__(sections=sections, num_classes=num_classes, revision=revision)
        self.section = sections[0]

    def forward(self, maps: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode boxes float32 [B, N, 1, 4] xyxy on the canvas and scores float32 [B, N, C]."""
        raw, rows = self.rows(maps, canvas_size(batch))
        sure = 1 - raw[..., DEVIATIONS].sigmoid().mean(dim=-1, keepdim=True)
        scores = raw[..., 8:9].sigmoid() * raw[..., 9:].sigmoid() * sure
        return self.decode(raw[..., MEANS], rows).unsqueeze(2), scores

    def loss(self, maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Raise UserError: the likelihood that such a network is trained by is not implemented."""
        raise self.section.error("it predicts, but cannot be trained: its loss is not supported; [yolo] sections learn")
