"""Pictures of detections: what is painted where, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from detkit.core.palette import class_colour, oklch_to_srgb, text_colour
from detkit.core.structures import Detections, Target
from detkit.view.draw import draw_detections


def detections(boxes, scores, labels, names=("cat", "dog")) -> Detections:
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        names,
    )


GREY = np.full((120, 200, 3), 128, np.uint8)


def test_no_detections_leave_the_picture_as_it_is():
    assert np.array_equal(np.asarray(draw_detections(GREY, detections([], [], []))), GREY)


def test_the_input_is_not_changed():
    array, picture = GREY.copy(), Image.fromarray(GREY)
    found = detections([[10, 40, 60, 90]], [0.9], [0])
    draw_detections(array, found)
    draw_detections(picture, found)
    assert np.array_equal(array, GREY)
    assert np.array_equal(np.asarray(picture), GREY)


def test_the_outline_lies_on_the_box_in_its_class_colour():
    picture = np.asarray(draw_detections(GREY, detections([[10, 40, 60, 90]], [0.9], [1])))
    colour = class_colour(1)
    assert tuple(picture[70, 10]) == colour
    assert tuple(picture[89, 30]) == colour  # half-open: the last row is 89
    assert tuple(picture[70, 30]) == (128, 128, 128)
    assert tuple(picture[90, 30]) == (128, 128, 128)


def test_scores_below_the_threshold_are_not_drawn():
    found = detections([[10, 40, 60, 90], [100, 40, 150, 90]], [0.9, 0.2], [0, 1])
    picture = np.asarray(draw_detections(GREY, found, score_threshold=0.5))
    assert (picture[:, 100:] == 128).all()
    assert (picture[:, :60] != 128).any()


@pytest.mark.parametrize("box", [[0, 0, 200, 120], [-5, -5, 8, 8], [195, 115, 230, 140], [50, 50, 50, 50]])
def test_boxes_at_and_beyond_the_edge_are_drawn_without_error(box):
    picture = draw_detections(GREY, detections([box], [0.5], [0], names=["a name that is wider than the picture" * 3]))
    assert picture.size == (200, 120)


def test_ground_truth_is_dashed_white():
    target = Target(boxes=torch.tensor([[20.0, 30.0, 120.0, 100.0]]), labels=torch.tensor([1]))
    picture = np.asarray(draw_detections(GREY, detections([], [], []), target=target))
    row = {tuple(pixel) for pixel in picture[30, 20:120]}
    assert row == {(0, 0, 0), (255, 255, 255)}


def test_only_a_missed_ground_truth_is_named():
    target = Target(boxes=torch.tensor([[20.0, 30.0, 60.0, 60.0]]), labels=torch.tensor([1]))
    below = np.s_[62:75, 20:60]  # where the name of this ground truth belongs
    found = draw_detections(GREY, detections([[20, 30, 60, 58]], [0.9], [1]), target=target)
    missed = draw_detections(GREY, detections([[20, 30, 60, 58]], [0.9], [0]), target=target)
    assert (np.asarray(found)[below] == 128).all()
    assert (np.asarray(missed)[below] == 255).any()


def test_every_kind_of_picture_is_taken(tmp_path):
    found = detections([[2, 2, 9, 9]], [0.5], [0])
    path = tmp_path / "grey.png"
    Image.new("L", (20, 10), 7).save(path)
    for image in (path, str(path), Image.new("RGBA", (20, 10)), np.zeros((10, 20, 3), np.uint8)):
        picture = draw_detections(image, found)
        assert picture.mode == "RGB"
        assert picture.size == (20, 10)


def test_names_outside_ascii_and_unknown_names_are_drawn():
    draw_detections(GREY, detections([[10, 40, 60, 90]], [0.9], [0], names=["Ölfleck Ω"]))
    draw_detections(GREY, detections([[10, 40, 60, 90]], [0.9], [5], names=None))


def test_colours_of_twenty_classes_are_apart():
    colours = np.array([class_colour(label) for label in range(20)], dtype=float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert distance[~np.eye(20, dtype=bool)].min() > 30


def test_the_text_stands_out_on_every_class_colour():
    def luminance(colour):
        channels = np.array(colour) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for label in range(100):
        colour = class_colour(label)
        low, high = sorted((luminance(colour), luminance(text_colour(colour))))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_oklch_ends_are_black_and_white():
    assert oklch_to_srgb(0, 0, 0) == (0, 0, 0)
    assert oklch_to_srgb(1, 0, 0) == (255, 255, 255)
