"""Any timm model as a backbone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detkit.errors import UserError
from detkit.model.backbone.freeze import Norm, freeze_batch_norm
from detkit.model.backbone.pretrained import timm_model
from detkit.types import FeatureSpec


class TimmBackbone(nn.Module):
    """The feature maps of a timm model at the given strides; `mean` and `std` are those of its weights.

    name: as in `timm.list_models()`. norm: as in `ResNet`.
    """

    def __init__(
        self,
        *,
        name: str = "tf_efficientnet_lite0",
        strides: Sequence[int] = (8, 16, 32),
        norm: Norm = "live",
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        available = timm_model(name, pretrained=False, key="model.backbone").feature_info.reduction()  # type: ignore[union-attr, operator]
        missing = sorted(set(strides) - set(available))
        if missing:
            raise UserError(f"model.strides={list(strides)}: {name} has maps at {available}, none at {missing}")
        indices = tuple(available.index(stride) for stride in strides)
        self.net = timm_model(name, pretrained=pretrained, key="model.backbone", out_indices=indices)
        info = self.net.feature_info
        self.features = [FeatureSpec(c, s) for c, s in zip(info.channels(), info.reduction(), strict=True)]  # type: ignore[union-attr, operator]
        self.mean = tuple(255 * m for m in self.net.default_cfg["mean"])  # type: ignore[index, union-attr]
        self.std = tuple(255 * s for s in self.net.default_cfg["std"])  # type: ignore[index, union-attr]
        if norm == "frozen":
            freeze_batch_norm(self.net)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.net(images)
