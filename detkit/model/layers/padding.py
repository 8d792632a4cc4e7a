"""TensorFlow's padding as a constant, which it is on canvases whose sides are multiples of the strides."""

from __future__ import annotations

from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.image.preprocess import Preprocess, fixed_canvas

LARGEST_STRIDE = 32  # of a backbone


def has_whole_strides(preprocess: Preprocess) -> bool:
    """Tell whether the sides of all canvases are multiples of the largest stride."""
    sides = fixed_canvas(preprocess) or (preprocess.pad_multiple,)
    return all(side % LARGEST_STRIDE == 0 for side in sides)


def settle_padding(module: nn.Module) -> int:
    """Fix, in place, the padding of every `Conv2dSame` to that of maps of even sides; returns how many there are.

    Computed while a graph of dynamic sizes is traced, it puts the whole history of a size into every shape after it,
    and compilers spend minutes on that arithmetic.
    """
    found: list[nn.Conv2d] = [conv for conv in module.modules() if isinstance(conv, Conv2dSame)]
    for conv in found:
        sides = [
            max((kernel - 1) * dilation + 1 - stride, 0)
            for kernel, dilation, stride in zip(conv.kernel_size, conv.dilation, conv.stride, strict=True)
        ]
        (top, left), (height, width) = (side // 2 for side in sides), sides
        conv.__class__ = SettledConv2d
        assert isinstance(conv, SettledConv2d)
        conv.border = (left, width - left, top, height - top)
    return len(found)


class SettledConv2d(nn.Conv2d):
    """Convolution that pads its input with zeros first; border: how many left, right, above and below."""

    border: tuple[int, int, int, int]

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, self.border))
