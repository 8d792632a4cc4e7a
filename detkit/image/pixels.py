"""Convert arrays and tensors to uint8 RGB images; ambiguous values are refused."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from detkit.core.errors import UserError
from detkit.image.read import to_rgb

ROUNDING = 1e-3  # by which floats may lie outside of 0..1


def array_to_rgb(image: NDArray[np.number]) -> NDArray[np.uint8]:
    """An array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] as uint8 [H, W, 3] RGB.

    Integers are 0..255, of uint16 0..65535 where one is larger; floats are 0..1. Transparent pixels are laid on white.
    Raises UserError for another shape or type, for values outside of these ranges, and where there is no pixel.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        first = "; this one seems to be [3, H, W]: use .transpose(1, 2, 0)" if image.shape[:1] == (3,) else ""
        raise UserError(
            f"an array image is [H, W, 3] RGB, [H, W] or [H, W, 4], not {list(image.shape)} {image.dtype}{first}"
        )
    return _to_rgb(image, f"an array image {list(image.shape)} {image.dtype}")


def tensor_to_rgb(image: Tensor) -> NDArray[np.uint8]:
    """A tensor [3, H, W], [1, H, W], [4, H, W] or [H, W], with values as of `array_to_rgb`, as uint8 [H, W, 3] RGB."""
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[0] not in (1, 3, 4)):
        raise UserError(
            f"a tensor image is [3, H, W] uint8 or float 0..1, not {list(image.shape)} {image.dtype}"
            + ("; for [H, W, 3] pass an array or use .permute(2, 0, 1)" if image.shape[-1:] == (3,) else "")
        )
    name = f"a tensor image {list(image.shape)} {image.dtype}"
    image = image.detach().cpu()
    image = image.float() if image.is_floating_point() else image
    return _to_rgb((image.permute(1, 2, 0) if image.ndim == 3 else image).numpy(), name)


def _to_rgb(image: NDArray[np.number], name: str) -> NDArray[np.uint8]:
    if image.size == 0:
        raise UserError(f"{name} has no pixels: height and width are at least 1")
    if image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # NaN is neither
            raise UserError(f"{name} has values {low:.3g}..{high:.3g}: floats are 0..1; {_way_out(low, high)}")
        pixels = (image * 255).round().clip(0, 255).astype(np.uint8)
    elif image.dtype.kind in "iu":
        low, high = int(image.min()), int(image.max())
        if image.dtype == np.uint16 and high > 255:
            pixels = (image / 257).round().astype(np.uint8)
        elif low < 0 or high > 255:
            raise UserError(f"{name} has values {low}..{high}: integers are 0..255, or 0..65535 as uint16")
        else:
            pixels = image.astype(np.uint8, copy=False)
    else:
        raise UserError(f"{name} is none of integers 0..255 or floats 0..1")
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    return to_rgb(Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels))


def _way_out(low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return "there are NaN among them"
    if low >= 0 and high <= 255:
        return "divide by 255, or pass uint8"
    return "pass the image as it was before it was normalised: the detector does that itself"
