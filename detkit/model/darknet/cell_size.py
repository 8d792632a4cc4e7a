"""The size of the cells of a Darknet network's grids."""

from __future__ import annotations

from detkit.core.structures import Size


def cell_size(canvas: Size, grid: Size, revision: int) -> tuple[float, float]:
    """Compute (width, height) in pixels of a cell of a grid of (rows, columns) over a canvas of (h, w) pixels.

    Darknet has boxes as fractions of the grid, so a canvas of 300 pixels has 10 cells of 30, though the strides of the
    layers multiply to 32. revision: see `build_darknet`; in the first a cell was as high as wide, and of whole pixels.
    """
    if revision < 2:
        side = canvas[1] // grid[1]
        return side, side
    return canvas[1] / grid[1], canvas[0] / grid[0]
