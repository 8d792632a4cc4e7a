"""Position-sensitive RoI pooling whose regions keep the fractions of a cell (R-FCN, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor

# Symbols: R regions, C channels after pooling, k cells along a side, H x W cells of the map.


def ps_roi_pool(feature: Tensor, regions: Tensor, size: int, scale: float) -> Tensor:
    """Average each of k x k cells of a region over a map of its own: [B, C k k, H, W] -> float32 [R, C, k, k].

    regions: float32 [R, 5] of (image, x1, y1, x2, y2), half-open, in pixels of the canvas; scale: cells of the map per
    pixel. Channel (c k + row) k + column is the map of cell (row, column). As R-FCN's own layer has it, the corners
    are rounded to whole pixels and a side is 0.1 cells at least; the cells' borders are rounded outwards to whole
    cells of the map. (`torchvision.ops.ps_roi_pool` rounds the corners to whole cells of the map.) A cell beyond the
    map is 0.

    Each mean is four entries of the map's integral image, so the cost does not grow with the region, and both
    directions run on all cores: sums are float64, in which the differences keep all digits of float32.
    """
    maps, height, width = feature.shape[1:]
    top, bottom = _borders(regions[:, 2], regions[:, 4], size, scale, height)
    left, right = _borders(regions[:, 1], regions[:, 3], size, scale, width)
    area = (bottom - top)[:, :, None] * (right - left)[:, None, :]  # [R, k, k]
    integral = torch.nn.functional.pad(feature.double().cumsum(2).cumsum(3), (1, 0, 1, 0))
    flat = integral.permute(1, 0, 2, 3).reshape(maps // size**2, size**2, -1)  # [C, k k, B (H + 1) (W + 1)]
    first = regions[:, 0].long() * ((height + 1) * (width + 1))

    def at(row: Tensor, column: Tensor) -> Tensor:
        """The integral image of each cell's own map above and left of a corner: float64 [C, k k, R]."""
        index = first[:, None, None] + row[:, :, None] * (width + 1) + column[:, None, :]  # [R, k, k]
        index = index.flatten(1).t()[None].expand(flat.shape[0], -1, -1)
        return flat.gather(2, index)

    total = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
    mean = total.permute(2, 0, 1).reshape(-1, maps // size**2, size, size) / area.clamp(min=1)[:, None]
    return mean.float()


def _borders(low: Tensor, high: Tensor, size: int, scale: float, length: int) -> tuple[Tensor, Tensor]:
    """Along one axis, the first cell of the map that each of k cells reads and the one after its last: int64 [R, k]."""
    start = _round(low) * scale
    end = (_round(high - 1) + 1) * scale  # the layer's corner is the last pixel itself
    cell = ((end - start).clamp(min=0.1) / size)[:, None]
    cells = torch.arange(size, device=low.device, dtype=low.dtype)
    first = torch.floor(cells * cell + start[:, None]).clamp(0, length).long()
    beyond = torch.ceil((cells + 1) * cell + start[:, None]).clamp(0, length).long()
    return first, torch.maximum(beyond, first)


def _round(pixels: Tensor) -> Tensor:
    """Halves go up, as C's `round` has it (Python's and torch's go to the even number)."""
    return torch.floor(pixels + 0.5)
