"""Give a detector's large and dilated depthwise convolutions gradients that are fast on CPUs."""

from __future__ import annotations

from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

from detkit.ops.depthwise import depthwise_conv2d


def speed_up_depthwise(module: nn.Module) -> int:
    """Replace, in place, the depthwise convolutions that PyTorch trains slowly on a CPU; returns how many.

    Parameters, their names and all results stay; gradients are the same up to rounding. 3 x 3 kernels without dilation
    are left as they are: PyTorch has a fast path for them.
    """
    chosen = [conv for conv in module.modules() if _is_slow(conv)]
    for conv in chosen:
        conv.__class__ = DepthwiseConv2dSame if type(conv) is Conv2dSame else DepthwiseConv2d
    return len(chosen)


def _is_slow(conv: nn.Module) -> bool:
    if type(conv) not in (nn.Conv2d, Conv2dSame):
        return False
    assert isinstance(conv, nn.Conv2d)
    square = all(len(set(pair)) == 1 for pair in (conv.kernel_size, conv.stride, conv.dilation))
    padded = type(conv) is Conv2dSame or (not isinstance(conv.padding, str) and len(set(conv.padding)) == 1)
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1 and conv.padding_mode == "zeros"
    return depthwise and square and padded and (conv.kernel_size[0] > 3 or conv.dilation[0] > 1)


class DepthwiseConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with a square kernel, by `depthwise_conv2d`."""

    def forward(self, x: Tensor) -> Tensor:
        return self._convolve(x, int(self.padding[0]))

    def _convolve(self, x: Tensor, padding: int) -> Tensor:
        return depthwise_conv2d(
            x, self.weight, self.bias, stride=self.stride[0], padding=padding, dilation=self.dilation[0]
        )


class DepthwiseConv2dSame(DepthwiseConv2d):
    """timm's `Conv2dSame`, by `depthwise_conv2d`: padded as TensorFlow does, depending on the input size."""

    def forward(self, x: Tensor) -> Tensor:
        return self._convolve(pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation)), 0)
