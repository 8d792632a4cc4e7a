"""The segmentation against one in plain Python, with sets, on tiny images."""

from __future__ import annotations

import numpy as np
import pytest

from detkit.proposal.segmentation import LEVELS, cut, grid_graph, segment, smooth


def plain_edges(pixels):
    """(level, edge, pixel, pixel) of all neighbours, ascending."""
    height, width, channels = pixels.shape
    edges = []
    for y in range(height):
        for x in range(width):
            for direction, (down, right) in enumerate([(0, 1), (1, 0), (1, 1), (1, -1)]):
                if y + down < height and 0 <= x + right < width:
                    squared = np.float32(0)
                    for c in range(channels):
                        difference = pixels[y + down, x + right, c] - pixels[y, x, c]
                        squared += difference * difference
                    level = int(np.sqrt(squared) * np.float32(LEVELS) + np.float32(0.5))
                    pixel = y * width + x
                    edges.append((level, 4 * pixel + direction, pixel, pixel + down * width + right))
    return sorted(edges)


def plain_segment(image, scale, min_size, sigma):
    """The paper's algorithm with a set of pixels for each region."""
    pixels = smooth(image, sigma)
    height, width = image.shape[:2]
    regions = {pixel: {pixel} for pixel in range(height * width)}
    of = list(range(height * width))
    inner = dict.fromkeys(regions, 0.0)

    def join(a, b, level):
        regions[a] |= regions.pop(b)
        inner[a] = level
        for pixel in regions[a]:
            of[pixel] = a

    edges = plain_edges(pixels)
    for level, _, one, other in edges:
        a, b = of[one], of[other]
        if a != b and level <= min(inner[k] + scale * LEVELS / len(regions[k]) for k in (a, b)):
            join(a, b, level)
    for level, _, one, other in edges:
        a, b = of[one], of[other]
        if a != b and min(len(regions[a]), len(regions[b])) < min_size:
            join(a, b, level)
    names = {region: name for name, region in enumerate(dict.fromkeys(of))}
    return np.array([names[region] for region in of]).reshape(height, width)


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_plain_algorithm(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 13, 2)
    levels = 256 if seed % 2 else 4  # few levels: many edges of the same weight
    image = (rng.integers(0, levels, (height, width, 3)) * (255 // (levels - 1))).astype(np.uint8)
    for scale, min_size, sigma in ((50, 1, 0.0), (300, 5, 0.8), (20.5, 3, 0.5)):
        ours = segment(image, scale=scale, min_size=min_size, sigma=sigma)
        np.testing.assert_array_equal(ours, plain_segment(image, scale, min_size, sigma))


def test_edges_ascend_and_are_all_there():
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    graph = grid_graph(smooth(image, 0.8))
    assert list(zip(graph.levels.tolist(), graph.edges.tolist(), strict=True)) == [
        edge[:2] for edge in plain_edges(smooth(image, 0.8))
    ]
    assert len(graph.edges) == 7 * 4 + 6 * 5 + 2 * 6 * 4


def test_black_beside_white_is_the_heaviest_edge():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 255
    graph = grid_graph(smooth(image, 0))
    assert graph.levels.tolist() == [round(255 * 3**0.5 * LEVELS)]


def test_two_halves_are_two_regions():
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 13:] = (200, 30, 90)
    expected = np.repeat((np.arange(30) >= 13)[None].astype(int), 20, axis=0)
    np.testing.assert_array_equal(segment(image, scale=10, min_size=5, sigma=0), expected)


def test_no_region_is_below_the_smallest_size():
    image = np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    sizes = np.bincount(segment(image, scale=5, min_size=30).reshape(-1))
    assert len(sizes) > 1 and sizes.min() >= 30


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (6, 7)])
def test_a_blank_or_grey_image_is_one_region(shape):
    assert not segment(np.full(shape, 80, np.uint8), scale=50, min_size=50).any()


def test_one_graph_serves_every_scale():
    image = np.random.default_rng(4).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    graph = grid_graph(smooth(image, 0.8))
    for scale in (20, 500):
        np.testing.assert_array_equal(
            cut(graph, scale=scale, min_size=4), segment(image, scale=scale, min_size=4, sigma=0.8)
        )
