"""Build a detector from a Darknet network: its layers are the backbone, its head sections the dense head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from detkit.core.errors import UserError
from detkit.image.preprocess import Preprocess, fixed_canvas
from detkit.model.darknet.classes import num_others, num_outputs, own_classes, with_classes
from detkit.model.darknet.detection import DetectionHead
from detkit.model.darknet.gaussian import GaussianYoloHead
from detkit.model.darknet.network import DarknetNetwork
from detkit.model.darknet.region import RegionHead
from detkit.model.darknet.section import Section, Sections, number_sections
from detkit.model.darknet.weighted import Connected, Convolutional
from detkit.model.darknet.yolo import YoloHead
from detkit.model.one_stage import OneStageDetector
from detkit.model.protocols import DenseHead, Postprocess


def build_darknet(
    *, sections: Sections, postprocess: Postprocess, num_classes: int, preprocess: Preprocess, revision: int = 1
) -> OneStageDetector:
    """Build the detector of the sections of a `.cfg`, for `num_classes` classes whatever they say.

    Its weights are random, as at the start of a training; `detkit.checkpoint.darknet` reads those of a `.weights` file.
    revision: of the interpretation of head sections, 2 in all that is read now. Checkpoints without one were trained
    with the first: cells of whole pixels, which differ from Darknet's on canvases that the strides do not divide, and
    squared errors whatever iou_loss says. Raises UserError naming a section that is unknown or does not fit.
    """
    net, layers = number_sections(with_classes(sections, num_classes))
    network = DarknetNetwork(net=net, sections=layers, size=fixed_canvas(preprocess))
    heads = [layers[index] for index in network.heads]
    for head in heads:
        channels, height, width = network.shapes[head.index]
        found = channels * height * width if head.name == "detection" else channels
        if found != num_outputs(head, num_classes):
            raise head.error(f"its input has {found} numbers, it reads {num_outputs(head, num_classes)}")
    dense_head = _dense_head(heads, num_classes, revision)
    for head in heads:
        _start(network.layers[head.index - 1], head)
    return OneStageDetector(
        backbone=network,
        neck=nn.Identity(),
        dense_head=dense_head,
        postprocess=postprocess,
        num_classes=num_classes,
        preprocess=preprocess,
    )


def _dense_head(heads: Sequence[Section], num_classes: int, revision: int) -> DenseHead:
    kinds = {head.name for head in heads}
    if kinds in ({"yolo"}, {"Gaussian_yolo"}):
        kind = YoloHead if kinds == {"yolo"} else GaussianYoloHead
        return kind(sections=heads, num_classes=num_classes, revision=revision)
    if len(heads) > 1:
        raise UserError(
            f"this Darknet network detects in {', '.join(map(str, heads))}: only [yolo] or [Gaussian_yolo] may be "
            "several"
        )
    if kinds == {"region"}:
        return RegionHead(section=heads[0], num_classes=num_classes, revision=revision)
    return DetectionHead(section=heads[0], num_classes=num_classes)


@torch.no_grad()
def _start(layer: nn.Module, head: Section) -> None:
    """Initialise the layer before a head with small weights and, if there are anchors, an objectness of 1 %."""
    if isinstance(layer, Connected):
        nn.init.normal_(layer.linear.weight, std=0.01)
    elif isinstance(layer, Convolutional):
        nn.init.normal_(layer.conv.weight, std=0.01)
        if layer.conv.bias is not None and head.name != "detection":
            others = num_others(head)
            layer.conv.bias.view(-1, others + own_classes(head))[:, others - 1] = -math.log(99)
