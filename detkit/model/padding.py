"""TensorFlow's padding as a constant, which it is on canvases whose sides are multiples of the strides."""

from __future__ import annotations

from timm.layers import Conv2dSame
from torch import nn


def settle_padding(module: nn.Module) -> int:
    """Give, in place, every `Conv2dSame` the padding that it works out for even maps; returns how many there are.

    Worked out while a graph of open sizes is traced, it puts the whole history of a size into every shape after it.
    """
    found = [(name, conv) for name, conv in module.named_modules() if isinstance(conv, Conv2dSame)]
    for name, conv in found:
        sides = [
            max((kernel - 1) * dilation + 1 - stride, 0)
            for kernel, dilation, stride in zip(conv.kernel_size, conv.dilation, conv.stride, strict=True)
        ]
        (top, left), (height, width) = (side // 2 for side in sides), sides
        conv.__class__ = nn.Conv2d  # type: ignore[assignment]
        module.set_submodule(name, nn.Sequential(nn.ZeroPad2d((left, width - left, top, height - top)), conv))
    return len(found)
