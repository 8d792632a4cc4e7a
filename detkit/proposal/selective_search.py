"""Propose regions by selective search: every region of several hierarchies of merged segments.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013. "fast" and "quality" are the settings of that
paper (section 5), "fast" with the filters of R-CNN; see configs/proposal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.core.errors import UserError
from detkit.proposal.colour import COLOUR_SPACES, to_colour_space
from detkit.proposal.hierarchy import check_measures, merge_regions
from detkit.proposal.region import adjacent_pairs, describe_regions, texture_axis_bins
from detkit.proposal.segmentation import cut, grid_graph, smooth

ALGORITHM = 1  # raised when the same settings and seed give other boxes


@dataclass(frozen=True, kw_only=True)
class SelectiveSearch:
    """The settings; each colour space x scale x strategy gives a hierarchy, by default 8 ("fast").

    colour_spaces: names as in `to_colour_space`. scales: the k of a segmentation, which is also its smallest region
    in pixels. strategies: measures of similarity as in `merge_regions`. sigma: of the blur before a segmentation.
    min_side: boxes narrower or lower, in pixels of the image that is searched, are dropped.
    max_width: wider images are shrunk to this first; None: never. max_boxes: the best this many; None: all.
    seed: of the order. Called with an image it gives its proposals, as `selective_search` does.
    Raises UserError for an empty list and for an unknown name in one.
    """

    colour_spaces: Sequence[str] = ("hsv", "lab")
    scales: Sequence[int] = (50, 100)
    strategies: Sequence[str] = ("CTSF", "TSF")
    sigma: float = 0.8
    min_side: int = 20
    max_width: int | None = 500
    max_boxes: int | None = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("colour_spaces", "scales", "strategies"):
            values = tuple(getattr(self, name))  # a config gives lists, which do not compare equal to tuples
            if not values:
                raise UserError(f"proposal.{name} is empty: give at least one")
            object.__setattr__(self, name, values)
        for space in self.colour_spaces:
            if space not in COLOUR_SPACES:
                raise UserError(f"proposal.colour_spaces: {space!r} is none of {', '.join(COLOUR_SPACES)}")
        for strategy in self.strategies:
            check_measures(strategy)

    def parameters(self) -> dict[str, object]:
        """All that the boxes of an image depend on, as plain data."""
        return {"method": "selective_search", "algorithm": ALGORITHM, **asdict(self)}

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return selective_search(image, settings=self)


def selective_search(image: NDArray[np.uint8], *, settings: SelectiveSearch | None = None) -> NDArray[np.float32]:
    """Proposals for `image`, uint8 [H, W, 3] RGB: float32 [P, 4] xyxy pixels, each once, best first.

    The order is that of the paper (section 4): place in the hierarchy, from the top, times a random number. The same
    image and settings give the same boxes in the same order.
    """
    settings = settings or SelectiveSearch()
    shrunk = _shrink(image, settings.max_width)
    boxes = _ranked(_hierarchies(shrunk, settings), settings.seed)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= settings.min_side).all(axis=1)][: settings.max_boxes]
    scale = np.array([image.shape[1] / shrunk.shape[1], image.shape[0] / shrunk.shape[0]] * 2)
    whole: NDArray[np.float64] = boxes * scale
    return whole.astype(np.float32)


def _hierarchies(image: NDArray[np.uint8], settings: SelectiveSearch) -> list[NDArray[np.int64]]:
    found = []
    for space in settings.colour_spaces:
        pixels = to_colour_space(image, space)
        graph = grid_graph(smooth(pixels, settings.sigma))
        axis_bins = texture_axis_bins(pixels)
        for scale in settings.scales:
            labels = cut(graph, scale=scale, min_size=scale)
            regions, pairs = describe_regions(labels, pixels, axis_bins), adjacent_pairs(labels)
            found += [merge_regions(regions, pairs, strategy) for strategy in settings.strategies]
    return found


def _ranked(hierarchies: Sequence[NDArray[np.int64]], seed: int) -> NDArray[np.int64]:
    """All boxes, each once, at the best of its ranks; in a hierarchy the last box is the top."""
    boxes = np.concatenate(hierarchies)
    places = np.concatenate([np.arange(len(one), 0, -1) for one in hierarchies])
    # unlike that of a Generator, the stream of a RandomState never changes between versions of NumPy
    order = np.argsort(places * np.random.RandomState(seed).random_sample(len(places)), kind="stable")
    boxes = boxes[order]
    span = int(boxes.max(initial=0)) + 1
    keys = ((boxes[:, 0] * span + boxes[:, 1]) * span + boxes[:, 2]) * span + boxes[:, 3]
    _, first = np.unique(keys, return_index=True)
    kept: NDArray[np.int64] = boxes[np.sort(first)]
    return kept


def _shrink(image: NDArray[np.uint8], max_width: int | None) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if max_width is None or width <= max_width:
        return image
    size = (max_width, max(1, round(height * max_width / width)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
