"""Regions and their merging: hand cases, and a greedy loop over all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from detkit.core.errors import UserError
from detkit.proposal.hierarchy import check_measures, merge_regions, region_similarity
from detkit.proposal.region import WHOLE, Regions, adjacent_pairs, describe_regions, texture_axis_bins


def described(labels, pixels):
    return describe_regions(labels, pixels, texture_axis_bins(pixels))


def random_case(seed, height=24, width=30, cells=40):
    """An image of noise and a segmentation of it into cells around random points."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    points = rng.uniform(0, (height, width), (cells, 2))
    nearest = ((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2).argmin(axis=2)
    labels = np.unique(nearest, return_inverse=True)[1].reshape(height, width).astype(np.int32)
    return labels, rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain_merge(regions, pairs, measures):
    """Algorithm 1 of the paper: look at every pair before each merge."""
    rows = [list(row) for row in zip(*(column.tolist() for column in regions), strict=True)]
    area = int(regions.sizes.sum())
    live = {tuple(pair) for pair in pairs.tolist()}

    def similarity(a, b):
        (size_a, box_a, colour_a, texture_a), (size_b, box_b, colour_b, texture_b) = rows[a], rows[b]
        together = size_a + size_b
        width, height = (max(box_a[k + 2], box_b[k + 2]) - min(box_a[k], box_b[k]) for k in (0, 1))
        terms = {
            "C": sum(map(min, colour_a, colour_b)),
            "T": sum(map(min, texture_a, texture_b)),
            "S": WHOLE * (area - together) // area,
            "F": WHOLE * (area - width * height + together) // area,
        }
        return sum(terms[letter] for letter in measures)

    while live:
        a, b = min(live, key=lambda pair: (-similarity(*pair), pair))
        (size_a, box_a, *histograms_a), (size_b, box_b, *histograms_b) = rows[a], rows[b]
        share = size_a / (size_a + size_b)
        mixed = [
            [int(share * p + (1 - share) * q + 0.5) for p, q in zip(one, other, strict=True)]
            for one, other in zip(histograms_a, histograms_b, strict=True)
        ]
        box = [*map(min, box_a[:2], box_b[:2]), *map(max, box_a[2:], box_b[2:])]
        new = len(rows)
        rows.append([size_a + size_b, box, *mixed])
        renamed = [[new if k in (a, b) else k for k in pair] for pair in live]
        live = {(min(pair), max(pair)) for pair in renamed if pair[0] != pair[1]}
    return [row[1] for row in rows]


@pytest.mark.parametrize("measures", ["CTSF", "TSF", "F", "S", "C"])
def test_merges_as_the_greedy_loop_does(measures):
    for seed in range(2):
        labels, pixels = random_case(seed)
        regions, pairs = described(labels, pixels), adjacent_pairs(labels)
        boxes = merge_regions(regions, pairs, measures)
        assert boxes.tolist() == plain_merge(regions, pairs, measures)
        assert boxes[-1].tolist() == [0, 0, 30, 24]


def test_one_region_or_none_is_a_hierarchy():
    labels = np.zeros((3, 4), np.int32)
    regions = described(labels, np.zeros((3, 4, 3), np.uint8))
    assert merge_regions(regions, adjacent_pairs(labels), "CTSF").tolist() == [[0, 0, 4, 3]]
    none = Regions(*(column[:0] for column in regions))
    assert merge_regions(none, np.zeros((0, 2), np.int64), "CTSF").shape == (0, 4)


def test_similarity_by_hand():
    """Three columns of 2, 1 and 1 pixels in an image of 4x4; the first two have the same colour."""
    labels = np.repeat(np.array([[0, 0, 1, 2]], np.int32), 4, axis=0)
    pixels = np.full((4, 4, 3), 200, np.uint8)
    pixels[:, 3] = (200, 10, 10)  # agrees in one of three channels
    regions = described(labels, pixels)
    colour = {pair: region_similarity(regions, *pair, "C") / WHOLE for pair in ((0, 1), (0, 2))}
    assert colour == pytest.approx({(0, 1): 1, (0, 2): 1 / 3}, abs=1e-5)
    assert region_similarity(regions, 0, 1, "S") == WHOLE * 4 // 16
    assert region_similarity(regions, 1, 2, "S") == WHOLE * 8 // 16
    assert region_similarity(regions, 0, 1, "F") == WHOLE  # together they fill their box
    assert region_similarity(regions, 0, 2, "F") == WHOLE * 12 // 16  # the column between is missing
    parts = sum(region_similarity(regions, 0, 2, measure) for measure in "CTSF")
    assert region_similarity(regions, 0, 2, "CTSF") == parts


@pytest.mark.parametrize("measures", ["", "X", "CTX", "ctsf"])
def test_a_wrong_letter_is_named(measures):
    with pytest.raises(UserError, match=r"proposal\.strategies.*C, T, S, F"):
        check_measures(measures)


def test_histograms_equal_a_count_of_each_region():
    labels, pixels = random_case(5)
    axis_bins = texture_axis_bins(pixels)
    regions = describe_regions(labels, pixels, axis_bins)
    for region in (0, 7, int(labels.max())):
        inside = labels == region
        y, x = np.nonzero(inside)
        assert regions.sizes[region] == inside.sum()
        assert regions.boxes[region].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        colour = [np.bincount(pixels[inside][:, c].astype(int) * 25 // 256, minlength=25) for c in range(3)]
        signed = axis_bins[inside].astype(int) - 9  # pixels, channels, axes
        texture = [
            np.bincount(np.maximum(sign * signed[:, c, axis], 0), minlength=10)
            for c in range(3)
            for sign in (1, -1)
            for axis in range(4)
        ]
        for found, expected in ((regions.colours, colour), (regions.textures, texture)):
            counts = np.concatenate(expected)
            assert found[region].tolist() == (counts * WHOLE // counts.sum()).tolist()


def test_texture_of_a_slope():
    """Rising to the right: strongest at 0 degrees, cos 45 of that on the diagonals, nothing downwards."""
    pixels = np.repeat(np.arange(0, 200, 5, dtype=np.uint8)[None, :, None], 12, axis=0)
    assert texture_axis_bins(pixels)[6, 20, 0].tolist() == [9 + 9, 9 + 7, 9, 9 - 7]
    down = np.ascontiguousarray(pixels.transpose(1, 0, 2))
    assert texture_axis_bins(down)[20, 6, 0].tolist() == [9, 9 + 7, 9 + 9, 9 + 7]


def test_a_flat_image_has_no_texture():
    assert (texture_axis_bins(np.full((5, 6, 2), 90, np.uint8)) == 9).all()


def test_neighbours_share_a_side():
    labels = np.array([[0, 0, 1], [2, 0, 3]], np.int32)
    assert adjacent_pairs(labels).tolist() == [[0, 1], [0, 2], [0, 3], [1, 3]]
    assert adjacent_pairs(np.zeros((2, 2), np.int32)).shape == (0, 2)
