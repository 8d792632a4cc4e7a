"""Position-sensitive RoI pooling whose regions keep the fractions of a cell (R-FCN, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Symbols: R regions, C channels after pooling, k cells along a side, H x W cells of the map.


def ps_roi_pool(feature: Tensor, regions: Tensor, size: int, scale: float) -> Tensor:
    """Average each of k x k cells of a region over a map of its own: [B, C k k, H, W] -> float32 [R, C, k, k].

    regions: float32 [R, 5] of (image, x1, y1, x2, y2), half-open, in pixels of the canvas; scale: cells of the map per
    pixel. Channel (c k + row) k + column is the map of cell (row, column). As R-FCN's own layer has it, the corners
    are rounded to whole pixels and a side is 0.1 cells at least; the cells' borders are rounded outwards to whole
    cells of the map. (`torchvision.ops.ps_roi_pool` rounds the corners to whole cells of the map.) A cell beyond the
    map is 0.

    torchvision's kernel for CPUs runs on one core. Here the pixels of every cell are listed, and `embedding_bag`
    averages whole rows of channels, on all cores in both directions. Elsewhere a mean is four entries of the map's
    integral image, which needs no list of a length that a graph or the processor would have to wait for.
    """
    height, width = feature.shape[2:]
    top, bottom = _borders(regions[:, 2], regions[:, 4], size, scale, height)
    left, right = _borders(regions[:, 1], regions[:, 3], size, scale, width)
    image = regions[:, 0].long()
    pool = _by_integral if feature.is_cuda or torch.compiler.is_exporting() else _by_pixels
    return pool(feature.float(), image, top, bottom, left, right)


def _by_pixels(feature: Tensor, image: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Average rows top..bottom and columns left..right, int64 [R, k] each, of `image` [R]: [R, C, k, k]."""
    maps, height, width = feature.shape[1:]
    size = top.shape[1]
    columns = (right - left)[:, None, :].expand(-1, size, -1).flatten()
    count = ((bottom - top)[:, :, None] * (right - left)[:, None, :]).flatten()  # pixels of each cell [R * k * k]
    first = ((image[:, None, None] * height + top[:, :, None]) * width + left[:, None, :]).flatten()
    start = count.cumsum(0) - count
    cell = torch.repeat_interleave(count)  # whose pixel each of the listed ones is
    place = torch.arange(len(cell), device=cell.device) - start[cell]
    row = torch.div(place, columns[cell], rounding_mode="floor")
    pixel = first[cell] + row * (width - columns[cell]) + place
    own = feature.unflatten(1, (-1, size**2)).permute(0, 3, 4, 2, 1).reshape(-1, maps // size**2)
    mean = F.embedding_bag(pixel * size**2 + cell % size**2, own, start, mode="mean")
    return mean.view(-1, size, size, maps // size**2).permute(0, 3, 1, 2)


def _by_integral(feature: Tensor, image: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Do as `_by_pixels`; sums are float64, in which the differences keep all digits of float32."""
    maps, height, width = feature.shape[1:]
    size = top.shape[1]
    integral = F.pad(feature.double().cumsum(2).cumsum(3), (1, 0, 1, 0))
    flat = integral.permute(1, 0, 2, 3).reshape(maps // size**2, size**2, -1)  # [C, k k, B (H + 1) (W + 1)]
    first = (image * ((height + 1) * (width + 1)))[:, None, None]

    def at(row: Tensor, column: Tensor) -> Tensor:
        """The sum above and left of a corner of each cell, of its own map: [C, k k, R]."""
        # four gathers, not one that is split: the optimizer of ONNX graphs (torch 2.14) fails on that split
        index = (first + row[:, :, None] * (width + 1) + column[:, None, :]).flatten(1).T
        return flat.gather(2, index[None].expand(len(flat), -1, -1))

    area = (bottom - top)[:, :, None] * (right - left)[:, None, :]  # [R, k, k]
    total = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
    mean: Tensor = total.permute(2, 0, 1).unflatten(2, (size, size)) / area.clamp(min=1)[:, None]
    return mean.float()


def _borders(low: Tensor, high: Tensor, size: int, scale: float, length: int) -> tuple[Tensor, Tensor]:
    """Compute, along one axis, the first cell of the map that each of k cells reads and the one after: int64 [R, k]."""
    start = _round(low) * scale
    end = (_round(high - 1) + 1) * scale  # the layer's corner is the last pixel itself
    cell = ((end - start).clamp(min=0.1) / size)[:, None]
    cells = torch.arange(size, device=low.device, dtype=low.dtype)
    first = torch.floor(cells * cell + start[:, None]).clamp(0, length).long()
    beyond = torch.ceil((cells + 1) * cell + start[:, None]).clamp(0, length).long()
    return first, torch.maximum(beyond, first)


def _round(pixels: Tensor) -> Tensor:
    """Round halves up, as C's `round` does (Python's and torch's go to the even number)."""
    return torch.floor(pixels + 0.5)
