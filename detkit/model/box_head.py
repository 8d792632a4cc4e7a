"""Box heads: pooled RoI features to a vector per RoI, [R, C, k, k] -> [R, D] (R-FCN: over the whole map)."""

from __future__ import annotations

import re
from itertools import pairwise

import torch
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet
from torchvision.ops import Conv2dNormActivation

from detkit.config.instantiate import complete, name_of
from detkit.core.errors import UserError
from detkit.model.backbone.freeze import Norm
from detkit.model.backbone.origin import of_inner_part
from detkit.model.backbone.pretrained import IMAGENET, Pretrained, timm_model, torchvision_model
from detkit.model.backbone.timm_backbone import stage_name, stages_between
from detkit.model.dense import normal_init
from detkit.model.layers.truncated_svd import truncated_svd
from detkit.model.part import IMAGES
from detkit.model.protocols import Backbone, BoxHead, Part, T


class TwoFC(nn.Module):
    """Two fully connected layers with ReLU (Fast R-CNN's fc6 and fc7; FPN's two 1024-d layers).

    pretrained: start from the classifier of `name`, a VGG of torchvision: true, or a file of its weights (C = 512,
    k = 7 and 4096 channels are needed). weights: which of torchvision's, where pretrained is true. ranks: of both
    layers as products of two thin ones, which `detkit truncate_svd` makes of trained layers (Fast R-CNN, section 3.1);
    None: plain layers.
    """

    reads = "cells"

    def __init__(
        self,
        *,
        in_channels: int,
        size: int,
        channels: int = 1024,
        dropout: float = 0.0,
        name: str = "vgg16",
        pretrained: Pretrained = False,
        weights: str = IMAGENET,
        ranks: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.fc6: nn.Module = nn.Linear(in_channels * size * size, channels)
        self.fc7: nn.Module = nn.Linear(channels, channels)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.out_features = channels
        if pretrained:
            self._start_from(name, pretrained, weights)
        if ranks is not None:
            self.truncate(ranks)

    def _start_from(self, name: str, pretrained: Pretrained, weights: str) -> None:
        if not name.startswith("vgg"):
            raise UserError(
                f"model.box_head.pretrained={pretrained}: only a VGG has fc6 and fc7, {name} has not: set it to "
                "false, or take model/box_head=two_fc"
            )
        net = torchvision_model(
            name, pretrained=pretrained, weights=weights, key="model.box_head", with_classifier=True
        )
        classifier = net.classifier
        for own, given in ((self.fc6, classifier[0]), (self.fc7, classifier[3])):
            assert isinstance(own, nn.Linear)
            if own.weight.shape != given.weight.shape:
                raise UserError(
                    f"model.box_head.pretrained={pretrained}: {name} has a layer of {list(given.weight.shape)} where "
                    f"the box head has {list(own.weight.shape)}: take model.box_head.channels=4096 and 7 x 7 cells "
                    "of 512 channels, or set it to false"
                )
            own.load_state_dict(given.state_dict())

    def truncate(self, ranks: tuple[int, int]) -> None:
        """Replace both layers by their truncated SVDs of these ranks, in place."""
        assert isinstance(self.fc6, nn.Linear) and isinstance(self.fc7, nn.Linear)
        self.fc6, self.fc7 = truncated_svd(self.fc6, ranks[0]), truncated_svd(self.fc7, ranks[1])

    def forward(self, pooled: Tensor) -> Tensor:
        x = self.dropout(self.relu(self.fc6(pooled.flatten(1))))
        described: Tensor = self.dropout(self.relu(self.fc7(x)))
        return described


class ConvFC(nn.Module):
    """3x3 convolutions with batch norm and ReLU, then one fully connected layer.

    The 4conv1fc head of Wu & He 2018, "Group normalization", section 4.2, with the norm of Li et al. 2021.
    """

    reads = "cells"

    def __init__(
        self, *, in_channels: int, size: int, num_convs: int = 4, conv_channels: int = 256, channels: int = 1024
    ) -> None:
        super().__init__()
        widths = [in_channels, *[conv_channels] * num_convs]
        self.convs = nn.Sequential(*(Conv2dNormActivation(inside, width) for inside, width in pairwise(widths)))
        for conv in self.convs.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.fc = nn.Linear(widths[-1] * size * size, channels)
        self.relu = nn.ReLU(inplace=True)
        self.out_features = channels

    def forward(self, pooled: Tensor) -> Tensor:
        described: Tensor = self.relu(self.fc(self.convs(pooled).flatten(1)))
        return described


class Res5(nn.Module):
    """The last stage of a ResNet, then the mean over its cells (He et al. 2016, appendix A)."""

    reads = "cells"

    def __init__(
        self,
        *,
        in_channels: int,
        size: int,
        name: str = "resnet50",
        norm: Norm = "frozen",
        pretrained: Pretrained = True,
        weights: str = IMAGENET,
    ) -> None:
        super().__init__()
        net = last_stage(name, in_channels, pretrained=pretrained, weights=weights, option="res5")
        self.layer4 = net.layer4
        self.out_features = net.fc.in_features
        if norm == "frozen":
            freeze_batch_norm_2d(self)

    def forward(self, pooled: Tensor) -> Tensor:
        cells: Tensor = self.layer4(pooled)
        return cells.mean(dim=(2, 3))


def last_stage(name: str | None, in_channels: int, *, pretrained: Pretrained, weights: str, option: str) -> ResNet:
    """Create the torchvision ResNet `name`, whose layer4 reads `in_channels`; raises UserError if it does not.

    option: the option of model/box_head that asks, for messages.
    """
    if name is None or "resne" not in name:
        raise UserError(
            f"model/box_head={option} is the last stage of the ResNet that the backbone is cut from, and "
            f"the backbone is {name or 'none'}: take model/backbone=resnet18, resnet50 or resnet101, or "
            "another model/box_head"
        )
    net: ResNet = torchvision_model(name, pretrained=pretrained, weights=weights, key="model.box_head")
    wanted = net.layer4[0].conv1.in_channels
    if in_channels != wanted:
        raise UserError(
            f"model/box_head={option} goes on where {name} is cut at stride 16, from {wanted} channels, and is given "
            f"{in_channels}: it needs model/neck=none and the same network as model.backbone.name"
        )
    return net


class DilatedRes5(nn.Module):
    """The last stage of a ResNet at the resolution of the one before, then 1x1 to fewer channels (R-FCN, section 2).

    The stage's strides become 1 and what comes after them sees every second cell, so its weights keep their meaning:
    every second cell of the map, both ways, is the stage's own. Of the whole image: [B, C, H, W] -> [B, D, H, W].

    first_dilation: of the convolution that had the stride, 1 for torchvision's, whose stride lies in the 3x3 itself.
    2 is right for networks whose stride lies in the 1x1 before it (MSRA's ResNets, which R-FCN started from), and is
    what detkit took for every network at first: checkpoints without the key were trained with it.
    """

    reads = "image"

    def __init__(
        self,
        *,
        in_channels: int,
        size: int,
        channels: int = 1024,
        name: str = "resnet101",
        norm: Norm = "frozen",
        pretrained: Pretrained = True,
        weights: str = IMAGENET,
        first_dilation: int = 2,
    ) -> None:
        super().__init__()
        net = last_stage(name, in_channels, pretrained=pretrained, weights=weights, option="dilated_res5")
        self.layer4 = net.layer4
        for conv in self.layer4.modules():
            if isinstance(conv, nn.Conv2d):
                if conv.kernel_size == (3, 3):
                    dilation = first_dilation if conv.stride == (2, 2) else 2
                    conv.dilation = conv.padding = (dilation, dilation)
                conv.stride = (1, 1)
        self.reduce = pointwise(net.fc.in_features, channels)
        self.out_features = channels
        if norm == "frozen":
            freeze_batch_norm_2d(self)

    def forward(self, feature: Tensor) -> Tensor:
        reduced: Tensor = self.reduce(self.layer4(feature))
        return reduced


class DilatedTimm(nn.Module):
    """As `DilatedRes5`, of any timm model that supports dilation: the stages after its map of stride 16."""

    reads = "image"

    def __init__(
        self,
        *,
        in_channels: int,
        size: int,
        channels: int = 1024,
        name: str = "tf_efficientnet_lite0",
        norm: Norm = "live",
        pretrained: Pretrained = True,
    ) -> None:
        super().__init__()
        if name is None:
            raise UserError(
                "model/box_head=dilated_timm goes on with the timm model that the backbone is cut from, and the "
                "backbone is "
                "none: take model/backbone=timm or timm_light"
            )
        info = timm_model(name, pretrained=False, key="model.box_head").feature_info  # of all maps
        last = len(info) - 1
        if info.reduction()[-2:] != [16, 32]:
            raise UserError(
                f"model.box_head.name={name} has maps of strides {info.reduction()}, not 16 and 32 at the end"
            )
        if in_channels != info.channels()[-2]:
            raise UserError(
                f"model.box_head.name={name}: its stage goes on from a map of stride 16 with {info.channels()[-2]} "
                "channels, "
                f"and is given {in_channels}: it needs the same network as model.backbone.name, and model/neck=none"
            )
        maps = {"out_indices": (last - 1, last), "output_stride": 16}
        try:
            net = timm_model(name, pretrained=pretrained, key="model.box_head", **maps)
        except AssertionError as error:  # timm's message for models that do not support dilation
            raise UserError(
                f"model.box_head.name={name} cannot be dilated: choose a ResNet or EfficientNet as model.backbone.name"
            ) from error
        first, beyond = (stage_name(net, info, index) for index in (last - 1, last))
        self.stages = nn.Sequential(*stages_between(net, first, beyond))
        self.reduce = pointwise(info.channels()[-1], channels)
        self.out_features = channels
        if norm == "frozen":
            freeze_batch_norm_2d(self)

    def forward(self, feature: Tensor) -> Tensor:
        reduced: Tensor = self.reduce(self.stages(feature))
        return reduced


def pointwise(in_channels: int, channels: int) -> nn.Sequential:
    """Build a 1x1 convolution, initialised from N(0, 0.01), and ReLU."""
    conv = nn.Conv2d(in_channels, channels, 1)
    normal_init(conv, std=0.01)
    return nn.Sequential(conv, nn.ReLU(inplace=True))


class LightConv(nn.Module):
    """A 1x1 convolution to few channels, then one fully connected layer: made for CPUs."""

    reads = "cells"

    def __init__(self, *, in_channels: int, size: int, squeeze: int = 32, channels: int = 256) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.fc = nn.Linear(squeeze * size * size, channels)
        self.relu = nn.ReLU(inplace=True)
        self.out_features = channels

    def forward(self, pooled: Tensor) -> Tensor:
        x = self.relu(self.squeeze(pooled))
        described: Tensor = self.relu(self.fc(x.flatten(1)))
        return described


class RegionCNN(nn.Module):
    """A whole classification network on the crop of each region (R-CNN, section 2.1): [R, 3, S, S] -> [R, D].

    backbone: the network, a part of `detkit.model.backbone`; its map of `stride` is read. box_head: what then reads the
    map, max-pooled to `cells` along a side (pool5, fc6 and fc7 of VGG); None takes the mean over the map.
    map_cells: the map itself, averaged to so many cells along a side, follows the features, for box regressors
    (R-CNN, appendix C); 0: it does not. mean, std: of the weights, for the images the crops are cut from.
    """

    reads = "crops"

    def __init__(
        self,
        *,
        in_channels: int,
        size: int,
        backbone: Part[Backbone],
        stride: int = 32,
        cells: int = 7,
        box_head: Part[BoxHead] | None = None,
        map_cells: int = 0,
    ) -> None:
        super().__init__()
        if size < stride:
            raise UserError(
                f"model.roi_pool.size={size}: crops of {size} pixels have no room for a cell of "
                f"model.box_head.stride={stride}"
            )
        self.backbone = _inner("backbone", backbone, strides=[stride])
        mean, std = self.backbone.mean, self.backbone.std
        if mean is None or std is None:
            raise UserError(f"model.box_head.backbone ({name_of(self.backbone)}) has no mean and std: {IMAGES}")
        self.mean, self.std = mean, std
        channels = self.backbone.features[0].channels
        self.cells = cells
        self.box_head = None if box_head is None else _inner("box_head", box_head, in_channels=channels, size=cells)
        self.map_cells = map_cells
        self.map_channels = channels
        features = channels if self.box_head is None else self.box_head.out_features
        self.out_features = features + channels * map_cells**2

    def forward(self, crops: Tensor) -> Tensor:
        (feature,) = self.backbone(crops)
        if self.box_head is None:
            described: Tensor = feature.mean(dim=(2, 3))
        else:
            feature = F.adaptive_max_pool2d(feature, self.cells)
            described = self.box_head(feature)
        if self.map_cells == 0:
            return described
        return torch.cat([described, F.adaptive_avg_pool2d(feature, self.map_cells).flatten(1)], dim=1)


def _inner(kind: str, part: Part[T], **given: object) -> T:
    """Complete a part of a `RegionCNN`; errors name it model.box_head.<kind>, its place, and not model.<kind>."""
    try:
        with of_inner_part(f"model.{kind}", f"model.box_head.{kind}"):
            inner: T = complete(part, f"model.box_head.{kind}", **given)
            return inner
    except UserError as error:
        text = str(error)
        if f"model.box_head.{kind}" in text:
            raise
        text = text.replace(f"model/{kind}=", f"model/{kind}@model.box_head.{kind}=")
        text = re.sub(r"model\.strides=\[(\d+)\]", r"model.box_head.stride=\1", text)
        raise UserError(text.replace(f"model.{kind}", f"model.box_head.{kind}")) from error
