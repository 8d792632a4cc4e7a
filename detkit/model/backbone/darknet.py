"""The Darknet backbones of YOLO v1, v2 and v3, without their classifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec
from detkit.model.backbone.darknet_file import load_convolutions
from detkit.model.backbone.origin import note
from detkit.model.backbone.pretrained import Pretrained, is_only_planned, weight_path
from detkit.model.backbone.strides import check_strides
from detkit.model.layers.conv import conv_norm


class Residual(nn.Module):
    """Residual block: 1x1 to half the channels, 3x3 back, added to the input (Redmon & Farhadi 2018, figure 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = conv_norm(channels, channels // 2)
        self.expand = conv_norm(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        expanded: Tensor = self.expand(self.squeeze(x))
        return x + expanded


def yolo_v1_stages() -> list[nn.Sequential]:
    """Build the 20 convolutions that YOLO v1 pretrains on ImageNet, with the pools between (Redmon 2016, figure 3)."""
    pairs = [(1, 256), (3, 512)] * 4
    return [
        nn.Sequential(conv_norm(3, 64, 7, stride=2)),
        _pooled(64, (3, 192)),
        _pooled(192, (1, 128), (3, 256), (1, 256), (3, 512)),
        _pooled(512, *pairs, (1, 512), (3, 1024)),
        _pooled(1024, (1, 512), (3, 1024), (1, 512), (3, 1024)),
    ]


def darknet19_stages() -> list[nn.Sequential]:
    """Build the 18 convolutions of Darknet-19 below its classifier (YOLO9000, table 6)."""
    return [
        nn.Sequential(conv_norm(3, 32, 3)),
        _pooled(32, (3, 64)),
        _pooled(64, (3, 128), (1, 64), (3, 128)),
        _pooled(128, (3, 256), (1, 128), (3, 256)),
        _pooled(256, (3, 512), (1, 256), (3, 512), (1, 256), (3, 512)),
        _pooled(512, (3, 1024), (1, 512), (3, 1024), (1, 512), (3, 1024)),
    ]


def darknet53_stages() -> list[nn.Sequential]:
    """Build the 52 convolutions of Darknet-53 below its classifier (YOLOv3, table 1)."""
    stages = [nn.Sequential(conv_norm(3, 32, 3))]
    for channels, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        down = conv_norm(channels // 2, channels, 3, stride=2)
        stages.append(nn.Sequential(down, *(Residual(channels) for _ in range(blocks))))
    return stages


STAGES: dict[str, tuple[int, Callable[[], list[nn.Sequential]]]] = {  # name -> (stride of the first stage, stages)
    "yolo_v1": (2, yolo_v1_stages),
    "darknet19": (1, darknet19_stages),
    "darknet53": (1, darknet53_stages),
}


class Darknet(nn.Module):
    """YOLO v1's network, Darknet-19 or Darknet-53; the map at a stride is the last before the next downsampling.

    Batch norm and leaky activations throughout. YOLO v1's paper has no batch norm; the weights that Darknet publishes
    for it do, as here. Images are RGB on 0..1.

    pretrained: a file of ImageNet weights as Darknet publishes them (extraction.conv.weights, darknet19_448.conv.23,
    darknet53.conv.74), or null. Darknet-53 also comes with timm's: model/backbone=timm model.backbone.name=darknet53.
    """

    mean = (0.0, 0.0, 0.0)
    std = (255.0, 255.0, 255.0)

    def __init__(self, *, name: str = "darknet53", strides: Sequence[int], pretrained: Pretrained = None) -> None:
        super().__init__()
        if name not in STAGES:
            raise UserError(f"model.backbone.name={name}: choose one of {', '.join(STAGES)}")
        first_stride, stages = STAGES[name]
        blocks = stages()
        available = [first_stride * 2**index for index in range(len(blocks))]
        check_strides(name, strides, available)
        self.strides = sorted(strides)
        self.stages = nn.ModuleDict(
            {str(s): block for s, block in zip(available, blocks, strict=True) if s <= self.strides[-1]}
        )
        self.features = [FeatureSpec(_out_channels(self.stages[str(s)]), s) for s in self.strides]
        if pretrained is True:
            raise UserError(
                f"model.backbone.pretrained=true: there are none of {name} to be fetched; give a file of Darknet's, "
                "or null"
            )
        path = weight_path(pretrained, "model.backbone.pretrained")
        if path is not None and not is_only_planned():
            load_convolutions(self, path, "model.backbone.pretrained")
            note("model.backbone", str(path), path)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for stride, stage in self.stages.items():
            images = stage(images)
            if int(stride) in self.strides:
                maps.append(images)
        return maps


def _pooled(in_channels: int, *convs: tuple[int, int]) -> nn.Sequential:
    """Build 2x2 max pooling, then convolutions of (kernel, channels)."""
    stage = nn.Sequential(nn.MaxPool2d(2))
    for kernel, channels in convs:
        stage.append(conv_norm(in_channels, channels, kernel))
        in_channels = channels
    return stage


def _out_channels(stage: nn.Module) -> int:
    return [layer.num_features for layer in stage.modules() if isinstance(layer, nn.BatchNorm2d)][-1]
