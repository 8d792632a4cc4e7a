"""Any timm model as a backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import freeze_batch_norm_2d
from timm.models import FeatureInfo
from torch import Tensor, nn

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec
from detkit.model.backbone.freeze import Norm, freeze_up_to
from detkit.model.backbone.pretrained import Pretrained, timm_model
from detkit.model.backbone.strides import check_strides
from detkit.model.layers.fold import fold_batch_norm, fold_weights


class TimmBackbone(nn.Module):
    """A timm model's feature maps at the given strides; `mean` and `std` are those of its weights.

    name: as in `timm.list_models()`. norm: "frozen" uses the batch statistics of the weights, "live" learns them.
    frozen_stride: all layers up to the map of this stride do not learn; 0 for none.
    """

    def __init__(
        self,
        *,
        name: str = "tf_efficientnet_lite0",
        strides: Sequence[int],
        norm: Norm = "live",
        frozen_stride: int = 0,
        pretrained: Pretrained = True,
    ) -> None:
        super().__init__()
        available = timm_model(name, pretrained=False, key="model.backbone").feature_info  # all maps it has
        reductions = available.reduction()
        check_strides(name, strides, reductions)
        if frozen_stride not in (0, *reductions):
            raise UserError(
                f"model.backbone.frozen_stride={frozen_stride}: {name} has maps at {', '.join(map(str, reductions))}"
            )
        indices = tuple(reductions.index(stride) for stride in strides)
        self.net = timm_model(name, pretrained=pretrained, key="model.backbone", out_indices=indices)
        info = self.net.feature_info
        self.features = [FeatureSpec(c, s) for c, s in zip(info.channels(), info.reduction(), strict=True)]
        self.mean = tuple(255 * m for m in self.net.default_cfg["mean"])
        self.std = tuple(255 * s for s in self.net.default_cfg["std"])

        def stage(stride: int) -> str:
            return stage_name(self.net, available, reductions.index(stride))

        _drop_after(self.net, stage(max(strides)))
        if frozen_stride > 0:
            freeze_up_to(self.net, stage(frozen_stride))
            self.net.eval()  # the pass that finds what to fold leaves the other batch norms as they are
            blank = torch.zeros(1, 3, 64, 64)
            folded = fold_batch_norm(self.net, lambda: self.net(blank), lambda conv: not conv.weight.requires_grad)
            self.net.train()

            def fold_given(_: nn.Module, weights: dict[str, Tensor], prefix: str, *__: object) -> None:
                fold_weights(weights, folded, f"{prefix}net.")  # those of a training that froze less

            self.register_load_state_dict_pre_hook(fold_given)  # type: ignore[no-untyped-call]  # PyTorch's
        if norm == "frozen":
            freeze_batch_norm_2d(self.net)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.net(images)
        return maps


def stage_name(net: nn.Module, info: FeatureInfo, index: int) -> str:
    """Return the name in `net` of the stage of map `index` of `info`; some extractors rename a model's stages."""
    name = str(info.module_name(index))
    return name if name in dict(net.named_modules()) else name.replace(".", "_")


def stages_between(net: nn.Module, first: str, last: str) -> list[nn.Module]:
    """List the stages of `net` after `first`, up to `last`, which is in the same container."""
    container, _, name = last.rpartition(".")
    stages = dict(net.get_submodule(container).named_children())
    names = list(stages)
    chosen = names[names.index(first.rpartition(".")[2]) + 1 : names.index(name) + 1]
    return [stages[name] for name in chosen]


def _drop_after(net: nn.Module, last: str) -> None:
    """Remove the stages after `last` in its container, which timm keeps and runs for nothing: in place."""
    container, _, index = last.rpartition(".")
    stages = net.get_submodule(container)
    if isinstance(stages, nn.Sequential):
        del stages[int(index) + 1 :]
