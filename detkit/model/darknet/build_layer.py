"""Build the layer of a section: its module, the maps it reads, and its output shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import nn

from detkit.model.darknet.activation import ACTIVATIONS
from detkit.model.darknet.section import Section
from detkit.model.darknet.weighted import Connected, Convolutional, Local, SharedConvolutional
from detkit.model.darknet.weightless import (
    AvgPool,
    Centre,
    MaxPool,
    Product,
    Reorg,
    Route,
    Shortcut,
    Softmax,
    SpaceToDepth,
    Upsample,
)

Shape: TypeAlias = tuple[int, int, int]  # channels, height, width

HEADS = ("yolo", "Gaussian_yolo", "region", "detection")

# Options that would change what a layer computes; anything else that is not read is about training.
UNSUPPORTED = (
    "antialiasing", "assisted_excitation", "background", "binary", "coordconv", "deform", "dontload", "dontloadscales",
    "dropblock", "extra", "flatten", "flipped", "map", "maxpool_depth", "rotate", "spatial", "stretch",
    "stretch_sway", "sway", "tree", "weights_type", "xnor",
)  # fmt: skip


class Layer(NamedTuple):
    """A layer of a network; sources: indices of the sections it reads, -1 for the image; shape: of its output."""

    module: nn.Module
    sources: list[int]
    shape: Shape


def build_layer(section: Section, shapes: Sequence[Shape], layers: nn.ModuleList) -> Layer:
    """Build the layer of `section`.

    shapes: output shapes of the image and of every section before, so shapes[i + 1] is section i's. layers: those
    sections' modules, for shared weights. Raises UserError naming the section if it is of an unknown kind or does not
    fit what comes before.
    """
    for key in UNSUPPORTED:
        if section.word(key, "0") not in ("0", "none"):
            raise section.error(f"{key}={section.options[key]} is not supported")
    if section.name not in BUILDERS:
        raise section.error(f"[{section.name}] is not supported (supported: {', '.join(sorted(BUILDERS))})")
    if section.name in ("convolutional", "conv") and "share_index" in section.options:
        return _sharing(section, shapes, layers)
    return BUILDERS[section.name](section, shapes)


def _convolutional(section: Section, shapes: Sequence[Shape]) -> Layer:
    channels, height, width = shapes[-1]
    filters, size = section.integer("filters", 1), section.integer("size", 1)
    groups, dilation = section.integer("groups", 1), section.integer("dilation", 1)
    stride = _stride(section)
    padding = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
    if channels % groups or filters % groups:
        raise section.error(f"groups={groups} divides not both its input of {channels} channels and filters={filters}")
    module = Convolutional(
        in_channels=channels,
        out_channels=filters,
        size=size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        normalized=bool(section.integer("batch_normalize", 0)),
        activation=_activation(section, "logistic"),
    )
    rows, columns = (
        (side + 2 * padding * dilation - dilation * (size - 1) - 1) // step + 1
        for side, step in zip((height, width), stride, strict=True)
    )
    return _following(section, module, (filters, rows, columns))


def _sharing(section: Section, shapes: Sequence[Shape], layers: nn.ModuleList) -> Layer:
    """Build a convolution with the weights of an earlier one."""
    with torch.device("meta"):
        own = _convolutional(section, shapes)
    assert isinstance(own.module, Convolutional)
    index = _earlier(section, "share_index", section.integer("share_index"))
    owner, conv = layers[index], own.module.conv
    here, there = ({name: part.shape for name, part in one.state_dict().items()} for one in (own.module, owner))
    if not isinstance(owner, Convolutional) or here != there:
        raise section.error(f"share_index={section.options['share_index']}: section {index} has other weights")
    assert isinstance(conv.padding, tuple)
    module = SharedConvolutional(
        owner=owner,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        activation=_activation(section, "logistic"),
    )
    return _following(section, module, own.shape)


def _local(section: Section, shapes: Sequence[Shape]) -> Layer:
    channels, height, width = shapes[-1]
    filters, size, stride = section.integer("filters", 1), section.integer("size", 1), section.integer("stride", 1)
    if section.integer("pad", 0) and size % 2 == 0:
        raise section.error(f"pad=1 with size={size}: only odd sizes have a middle")
    padding = size // 2 if section.integer("pad", 0) else 0
    rows, columns = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
    if min(rows, columns, filters) < 1:
        return _following(section, nn.Identity(), (filters, rows, columns))  # which says that nothing is left
    module = Local(
        in_channels=channels,
        shape=(filters, rows, columns),
        size=size,
        stride=stride,
        padding=padding,
        activation=_activation(section, "logistic"),
    )
    return _following(section, module, (filters, rows, columns))


def _connected(section: Section, shapes: Sequence[Shape]) -> Layer:
    channels, height, width = shapes[-1]
    output = section.integer("output", 1)
    module = Connected(
        in_features=channels * height * width,
        out_features=output,
        normalized=bool(section.integer("batch_normalize", 0)),
        activation=_activation(section, "logistic"),
    )
    return _following(section, module, (output, 1, 1))


def _maxpool(section: Section, shapes: Sequence[Shape]) -> Layer:
    channels, height, width = shapes[-1]
    stride = _stride(section)
    size = section.integer("size", section.integer("stride", 1))
    padding = section.integer("padding", size - 1)
    rows, columns = ((side + padding - size) // step + 1 for side, step in zip((height, width), stride, strict=True))
    return _following(section, MaxPool(size=size, stride=stride, padding=padding), (channels, rows, columns))


def _avgpool(section: Section, shapes: Sequence[Shape]) -> Layer:
    return _following(section, AvgPool(), (shapes[-1][0], 1, 1))


def _route(section: Section, shapes: Sequence[Shape]) -> Layer:
    sources = [_earlier(section, "layers", index) for index in section.integers("layers")]
    groups, group_id = section.integer("groups", 1), section.integer("group_id", 0)
    joined = [shapes[source + 1] for source in sources]
    if len({shape[1:] for shape in joined}) > 1:
        sizes = ", ".join(f"{source}: {h}x{w}" for source, (_, h, w) in zip(sources, joined, strict=True))
        raise section.error(f"layers={section.options['layers']} join maps of different sizes ({sizes})")
    if not 0 <= group_id < groups or any(shape[0] % groups for shape in joined):
        raise section.error(
            f"groups={groups} group_id={group_id} does not fit {[shape[0] for shape in joined]} channels"
        )
    channels = sum(shape[0] for shape in joined) // groups
    return Layer(Route(groups=groups, group_id=group_id), sources, (channels, *joined[0][1:]))


def _shortcut(section: Section, shapes: Sequence[Shape]) -> Layer:
    sources = [_earlier(section, "from", index) for index in section.integers("from")]
    module = Shortcut(
        alpha=section.number("alpha", 1),
        beta=section.number("beta", 1),
        activation=_activation(section, "linear"),
    )
    return Layer(module, [section.index - 1, *sources], shapes[-1])


def _scale_channels(section: Section, shapes: Sequence[Shape]) -> Layer:
    scaled = (1, 2) if section.integer("scale_wh", 0) else (0,)  # by place, or by channel
    return _product(section, shapes, scaled)


def _sam(section: Section, shapes: Sequence[Shape]) -> Layer:
    return _product(section, shapes, (0, 1, 2))


def _product(section: Section, shapes: Sequence[Shape], shared: Sequence[int]) -> Layer:
    """Multiply the map before, of size 1 outside the `shared` dimensions of a shape, with the map `from`."""
    index = _earlier(section, "from", section.integer("from"))
    here, there = shapes[-1], shapes[index + 1]
    if here != tuple(side if dim in shared else 1 for dim, side in enumerate(there)):
        own, other = ("x".join(map(str, shape)) for shape in (here, there))
        raise section.error(f"from={section.options['from']}: its input of {own} does not fit that map of {other}")
    module = Product(activation=_activation(section, "linear"))
    return Layer(module, [section.index - 1, index], there)


def _upsample(section: Section, shapes: Sequence[Shape]) -> Layer:
    channels, height, width = shapes[-1]
    stride = section.integer("stride", 2)
    module = Upsample(stride=abs(stride), scale=section.number("scale", 1), reverse=stride < 0)
    if stride > 0:
        return _following(section, module, (channels, height * stride, width * stride))
    return _following(section, module, (channels, height // -stride, width // -stride))


def _reorg(section: Section, shapes: Sequence[Shape]) -> Layer:
    channels, height, width = shapes[-1]
    stride, reverse = section.integer("stride", 1), bool(section.integer("reverse", 0))
    if channels % stride**2 or (not reverse and (height % stride or width % stride)):
        raise section.error(f"stride={stride} does not divide its input of {channels} channels, {height}x{width}")
    module = Reorg(stride=stride, reverse=reverse)
    if reverse:
        return _following(section, module, (channels // stride**2, height * stride, width * stride))
    return _following(section, module, (channels * stride**2, height // stride, width // stride))


def _reorg3d(section: Section, shapes: Sequence[Shape]) -> Layer:
    channels, height, width = shapes[-1]
    stride = section.integer("stride", 1)
    if section.integer("reverse", 0):
        raise section.error("reverse=1 is not supported")
    if height % stride or width % stride:
        raise section.error(f"stride={stride} does not divide its input of {height}x{width}")
    return _following(section, SpaceToDepth(stride=stride), (channels * stride**2, height // stride, width // stride))


def _crop(section: Section, shapes: Sequence[Shape]) -> Layer:
    _, height, width = shapes[-1]
    kept = section.integer("crop_height", 1), section.integer("crop_width", 1)
    if kept != (height, width):
        raise section.error(
            f"it keeps {kept[0]}x{kept[1]} of {height}x{width}: only one that cuts nothing is supported"
        )
    return _following(section, nn.Identity() if section.integer("noadjust", 0) else Centre(), shapes[-1])


def _dropout(section: Section, shapes: Sequence[Shape]) -> Layer:
    return _following(section, nn.Dropout(section.number("probability", 0.5)), shapes[-1])


def _softmax(section: Section, shapes: Sequence[Shape]) -> Layer:
    channels, height, width = shapes[-1]
    groups = section.integer("groups", 1)
    if channels * height * width % groups:
        raise section.error(f"groups={groups} does not divide its input of {channels * height * width} numbers")
    return _following(section, Softmax(groups=groups, temperature=section.number("temperature", 1)), shapes[-1])


def _head(section: Section, shapes: Sequence[Shape]) -> Layer:
    return _following(section, nn.Identity(), shapes[-1])  # `detkit.model.darknet.detector` builds what reads it


def _following(section: Section, module: nn.Module, shape: Shape) -> Layer:
    """Make a layer that reads the section before it."""
    if min(shape) < 1:
        raise section.error(f"nothing is left of its input: it would give {shape[0]} channels of {shape[1]}x{shape[2]}")
    return Layer(module, [section.index - 1], shape)


def _stride(section: Section) -> tuple[int, int]:
    both = section.integer("stride", 1)
    return section.integer("stride_y", both), section.integer("stride_x", both)


def _activation(section: Section, default: str) -> str:
    name = section.word("activation", default)
    if name not in ACTIVATIONS:
        raise section.error(f"activation={name} is unknown (known: {', '.join(sorted(ACTIVATIONS))})")
    return name


def _earlier(section: Section, key: str, index: int) -> int:
    """Resolve an index of the file, negative ones counted back from here, to a section's own index."""
    found = section.index + index if index < 0 else index
    if not 0 <= found < section.index:
        raise section.error(f"{key}={section.options[key]}: there is no section {found} before it")
    return found


BUILDERS: dict[str, Callable[[Section, Sequence[Shape]], Layer]] = {
    "convolutional": _convolutional, "conv": _convolutional,
    "connected": _connected, "conn": _connected,
    "local": _local,
    "crop": _crop,
    "maxpool": _maxpool, "max": _maxpool,
    "avgpool": _avgpool, "avg": _avgpool,
    "route": _route,
    "shortcut": _shortcut,
    "scale_channels": _scale_channels,
    "sam": _sam,
    "upsample": _upsample,
    "reorg": _reorg,
    "reorg3d": _reorg3d,
    "dropout": _dropout,
    "softmax": _softmax, "soft": _softmax,
    **dict.fromkeys(HEADS, _head),
}  # fmt: skip
