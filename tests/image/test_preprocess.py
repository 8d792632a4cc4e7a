from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from detkit.core.errors import UserError
from detkit.image.preprocess import Letterbox, Preprocess, ShortSide, Warp, fixed_canvas
from detkit.image.read import read_image

KINDS: list[Preprocess] = [
    ShortSide(),
    ShortSide(short=320, max=400, pad_multiple=32),
    Warp(),
    Warp(height=7, width=512),
    Letterbox(),
    Letterbox(size=33, fill=0),
]
SIZES = [(480, 640), (375, 500), (1, 1), (3, 5000), (2000, 17), (417, 650)]


@pytest.mark.parametrize("preprocess", KINDS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_there_and_back(preprocess: Preprocess, size: tuple[int, int]) -> None:
    height, width = size
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 1, (50, 2, 2)) * [width, height]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    inside = preprocess.to_input(boxes, size)
    assert inside.dtype == np.float32
    np.testing.assert_allclose(preprocess.to_original(inside, size), boxes, rtol=1e-5, atol=1e-3)
    tensors = torch.from_numpy(boxes)
    torch.testing.assert_close(preprocess.to_input(tensors, size).numpy(), inside)
    torch.testing.assert_close(
        preprocess.to_original(preprocess.to_input(tensors, size), size), tensors, rtol=1e-5, atol=1e-3
    )


@pytest.mark.parametrize("preprocess", KINDS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_picture_has_the_size_of_the_geometry(preprocess: Preprocess, size: tuple[int, int]) -> None:
    image = preprocess(np.full((*size, 3), 200, np.uint8))
    geometry = preprocess.geometry(size)
    assert image.shape == (*geometry.size, 3)
    assert image.flags.c_contiguous
    whole = preprocess.to_input(np.array([[0, 0, size[1], size[0]]], np.float64), size)[0]
    left, top, right, bottom = whole.round().astype(int)
    assert (image[top:bottom, left:right] == 200).all()
    outside = image.sum() - image[top:bottom, left:right].sum(dtype=np.int64)
    assert (right - left) * (bottom - top) == geometry.size[0] * geometry.size[1] or outside >= 0


def test_short_side_by_hand() -> None:
    assert ShortSide().geometry((375, 500)).size == (600, 800)
    assert ShortSide().geometry((300, 600)).size == (500, 1000)
    assert ShortSide(short=320, max=640).geometry((480, 640)).size == (320, 427)  # 426.67
    assert ShortSide(short=1, max=100).geometry((2, 5)).size == (1, 3)  # 2.5 rounds up
    assert ShortSide(short=600, max=1000).geometry((1, 5000)).size == (1, 1000)


def test_letterbox_by_hand() -> None:
    geometry = Letterbox(size=416).geometry((480, 640))
    assert geometry == ((416, 416), (312 / 480, 416 / 640), (52, 0))
    image = Letterbox(size=8, fill=9)(np.full((4, 8, 3), 200, np.uint8))
    assert image[:, 0, 0].tolist() == [9, 9, 200, 200, 200, 200, 9, 9]


def test_to_original_clips() -> None:
    found = Letterbox(size=100).to_original(torch.tensor([[-5.0, 0.0, 300.0, 100.0]]), (50, 100))
    assert found.tolist() == [[0, 0, 100, 50]]
    assert Warp().to_original(torch.zeros(0, 4), (3, 4)).shape == (0, 4)


@pytest.mark.parametrize("preprocess", KINDS, ids=str)
def test_the_dict_builds_the_same(preprocess: Preprocess) -> None:
    described = preprocess.to_dict()
    assert described["_target_"] == f"detkit.image.preprocess.{type(preprocess).__name__}"
    assert instantiate(described) == preprocess


def test_the_interior_moves_with_the_boxes() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:40, 40:60] = 255
    for preprocess in (ShortSide(short=90, max=300), Warp(height=120, width=40), Letterbox(size=160)):
        bright = np.argwhere(preprocess(image)[:, :, 0] > 127)
        y1, x1 = bright.min(axis=0)
        y2, x2 = bright.max(axis=0) + 1
        expected = preprocess.to_input(np.array([[40.0, 20.0, 60.0, 40.0]]), (60, 80))[0]
        np.testing.assert_allclose([x1, y1, x2, y2], expected, atol=0.5)


def test_another_side_keeps_all_else() -> None:
    assert Letterbox(size=416, fill=0).at(320) == Letterbox(size=320, fill=0)
    assert Warp(height=300, width=400, pad_multiple=2).at(150) == Warp(height=150, width=200, pad_multiple=2)
    assert ShortSide(short=600, max=1000).at(480) == ShortSide(short=480, max=800)


def test_which_canvases_are_all_alike() -> None:
    assert fixed_canvas(ShortSide(short=320, max=533)) is None
    assert fixed_canvas(Warp(height=300, width=300)) == (300, 300)
    assert fixed_canvas(Letterbox(size=416)) == (416, 416)
    assert fixed_canvas(Warp(height=300, width=320, pad_multiple=32)) == (320, 320)


def test_a_jpeg_is_decoded_no_larger_than_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (1001, 667))
    Image.fromarray(smooth).save(path, quality=95, exif=exif)
    whole = read_image(path)
    for side, reduction in ((90, 8), (167, 4), (168, 4), (251, 2), (500, 2), (501, 1), (1200, 1)):
        preprocess = Letterbox(size=side, decode="reduced")
        image, size = preprocess.read(path)
        assert size == (1001, 667)
        assert image.shape == (-(-1001 // reduction), -(-667 // reduction), 3)
        seen, expected = preprocess(image, size), preprocess(whole)
        assert seen.shape == expected.shape
        assert np.abs(seen.astype(int) - expected).mean() < 3  # the last pixel may reach over the edge of the file
    assert ShortSide(short=320, max=1000, decode="reduced").read(path, room=2.0)[0].shape == whole.shape
    assert Letterbox(size=320).read(path)[0].shape == whole.shape
    png = tmp_path / "a.png"
    Image.fromarray(whole).save(png)
    np.testing.assert_array_equal(Letterbox(size=64, decode="reduced").read(png)[0], whole)


def test_a_wrong_word_for_decode_is_told() -> None:
    with pytest.raises(UserError, match=r"preprocess\.decode=half: choose full or reduced"):
        Warp(decode="half")
