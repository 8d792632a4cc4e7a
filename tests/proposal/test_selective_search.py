"""What selective search promises of its boxes, and that it finds objects."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from detkit.config.instantiate import build
from detkit.core.errors import UserError
from detkit.data.formats.voc.voc import read_voc
from detkit.proposal.colour import COLOUR_SPACES, to_colour_space
from detkit.proposal.report import measure_proposals
from detkit.proposal.selective_search import SelectiveSearch, selective_search
from detkit.proposal.split_proposals import propose_split

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def scene():
    """A disc and a bar on a background with a gradient and some noise."""
    rng = np.random.default_rng(0)
    image = np.empty((120, 160, 3), np.uint8)
    image[:] = np.linspace(60, 120, 160, dtype=np.uint8)[None, :, None]
    cv2.circle(image, (50, 60), 30, (200, 40, 40), -1)
    cv2.rectangle(image, (100, 20), (139, 99), (30, 90, 220), -1)
    return (image + rng.integers(0, 6, image.shape)).astype(np.uint8)


def iou(boxes, box):
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    inter = np.maximum(sides, 0).prod(axis=1)
    return inter / ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + np.prod(box[2:] - box[:2]) - inter)


def test_finds_the_objects_of_a_scene(scene):
    boxes = selective_search(scene)
    for box in ([20, 30, 81, 91], [100, 20, 140, 100]):
        assert iou(boxes, np.array(box)).max() > 0.9


def test_boxes_are_inside_unique_and_large_enough(scene):
    boxes = selective_search(scene)
    assert boxes.dtype == np.float32 and boxes.shape[1] == 4
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (160, 120)).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 20).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert [0, 0, 160, 120] in boxes.tolist()


def test_the_order_is_fixed_by_the_seed(scene):
    searches = [SelectiveSearch(max_boxes=None, seed=seed) for seed in (0, 0, 1)]
    boxes = [search(scene).tolist() for search in searches]
    assert boxes[0] == boxes[1] != boxes[2]
    assert sorted(boxes[0]) == sorted(boxes[2])
    first = selective_search(scene, settings=SelectiveSearch(max_boxes=5))
    assert first.tolist() == boxes[0][:5]


def test_a_wide_image_is_searched_small_and_answered_in_its_own_pixels(scene):
    wide = cv2.resize(scene, (1000, 700))
    boxes = selective_search(wide)
    assert [0, 0, 1000, 700] in boxes.tolist()
    assert (boxes[:, 2:] <= (1000, 700)).all() and (boxes[:, 2:] - boxes[:, :2] >= 40).all()
    assert iou(boxes, np.array([100 / 160, 20 / 120, 140 / 160, 100 / 120] * np.array([1000, 700] * 2))).max() > 0.9


@pytest.mark.parametrize(("size", "count"), [((60, 80), 1), ((20, 20), 1), ((19, 80), 0), ((1, 1), 0)])
def test_a_blank_image_is_one_box(size, count):
    boxes = selective_search(np.full((*size, 3), 127, np.uint8))
    assert boxes.tolist() == [[0, 0, size[1], size[0]]] * count


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_every_colour_space_works(scene, space):
    pixels = to_colour_space(scene, space)
    assert pixels.dtype == np.uint8 and pixels.shape[:2] == scene.shape[:2] and pixels.ndim == 3
    assert len(selective_search(scene, settings=SelectiveSearch(colour_spaces=[space], scales=[100]))) > 2


def test_black_has_a_place_in_every_colour_space():
    for space in COLOUR_SPACES:
        assert np.isfinite(to_colour_space(np.zeros((2, 2, 3), np.uint8), space).astype(float)).all()


def test_wrong_settings_are_named():
    with pytest.raises(UserError, match=r"proposal\.colour_spaces: 'hvs' is none of .*hsv"):
        SelectiveSearch(colour_spaces=["hvs"])
    with pytest.raises(UserError, match=r"proposal\.strategies"):
        SelectiveSearch(strategies=["CTX"])
    with pytest.raises(UserError, match=r"proposal\.scales is empty"):
        SelectiveSearch(scales=[])


def test_settings_of_the_configs():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        fast, quality = (
            build(compose("propose", overrides=[f"proposal=selective_search_{name}"]).proposal, "proposal")
            for name in ("fast", "quality")
        )
    assert fast == SelectiveSearch()
    assert len(quality.colour_spaces) * len(quality.scales) * len(quality.strategies) == 80


@pytest.mark.real_data
@pytest.mark.slow
def test_covers_the_objects_of_real_images(shared_data):
    annotations = read_voc(shared_data / "voc2012_100" / "VOC2012", "val")
    found = [
        propose_split(annotations, SelectiveSearch(), num_workers=workers, cache_dir=None)[0] for workers in (1, 2)
    ]
    np.testing.assert_array_equal(found[0].boxes, found[1].boxes)
    np.testing.assert_array_equal(found[0].offsets, found[1].offsets)
    assert np.diff(found[0].offsets).max() <= 2000
    report = measure_proposals(found[0], annotations)
    most = max(report.recall.by_count)
    assert report.recall.by_count[most].at_iou[0.5] >= 0.97
    assert report.ABO_all_objects[most] >= 0.80
