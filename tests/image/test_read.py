from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.core.errors import UserError
from detkit.image.read import read_image, read_image_size, to_rgb


def check(array: np.ndarray, size: tuple[int, int] = (4, 6)) -> None:
    assert array.dtype == np.uint8
    assert array.shape == (*size, 3)
    assert array.flags.c_contiguous
    assert array.flags.writeable


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "CMYK", "LAB", "HSV", "LA", "PA", "RGBA", "RGBX"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    check(to_rgb(Image.new("RGB", (6, 4), (200, 100, 50)).convert("RGBA" if mode == "PA" else "RGB").convert(mode)))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".gif"])
def test_file_formats(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.new("RGB", (6, 4), (200, 100, 50)).save(tmp_path / f"x{suffix}", **options)
    array = read_image(tmp_path / f"x{suffix}")
    check(array)
    assert array[0, 0].tolist() == [200, 100, 50]


def test_transparent_pixels_lie_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 100, 50, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert to_rgb(image).tolist() == [[[200, 100, 50], [255, 255, 255]]]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    palette.info["transparency"] = 0
    assert to_rgb(palette).tolist() == [[[255, 255, 255]]]


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (200, 100, 50)).convert("CMYK").save(tmp_path / "x.jpg", quality=100, subsampling=0)
    array = read_image(tmp_path / "x.jpg")
    assert np.abs(array.astype(int) - [200, 100, 50]).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_by_its_range(tmp_path: Path, suffix: str) -> None:
    samples = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    Image.fromarray(samples).save(tmp_path / f"x{suffix}")
    assert read_image(tmp_path / f"x{suffix}")[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_sixteen_bit_rgb_png(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + struct.pack(">HHH", 200 << 8, 100 << 8, 50 << 8))
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b""))
    assert read_image(path)[0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize(("samples", "expected"), [([0, 0.5, 1], [0, 128, 255]), ([0, 2, 300], [0, 2, 255])])
def test_float_tiff(tmp_path: Path, samples: list[float], expected: list[int]) -> None:
    Image.fromarray(np.array([samples], np.float32)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif")[0, :, 0].tolist() == expected


def test_32_bit_integers() -> None:
    assert to_rgb(Image.fromarray(np.array([[0, 7, 255]], np.int32)))[0, :, 0].tolist() == [0, 7, 255]
    assert to_rgb(Image.fromarray(np.array([[0, 65535, 70000]], np.int32)))[0, :, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = 255  # the stored top left corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif)
    upright = read_image(path)
    # where row 0 and column 0 of the file are in the picture, from the EXIF specification
    row, column = {
        1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0),
    }[orientation]  # fmt: skip
    assert upright.shape[:2] == ((16, 32) if orientation < 5 else (32, 16)) == read_image_size(path)
    assert upright[row, column, 0] > 200
    assert int((upright[:, :, 0] > 128).sum()) == 64
    stored_size = read_image(path, upright=False).shape[:2]
    assert stored_size == read_image_size(path, upright=False)
    if suffix != ".tif":
        assert read_image(path, upright=False)[0, 0, 0] > 200
        assert stored_size == (16, 32)


def test_broken_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole)
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(whole.read_bytes()[:700])
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    for path in (torn, text):
        with pytest.raises(UserError, match=f"cannot read image .*{path.name}"):
            read_image(path)
    for function in (read_image, read_image_size):
        with pytest.raises(UserError, match=r"no such image: .*gone.png"):
            function(tmp_path / "gone.png")


def test_the_limit_of_megapixels_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back afterwards
    path = tmp_path / "x.png"
    Image.new("1", (2000, 1500)).save(path)
    for limit, reads in (("2.9", False), ("3", True), ("0", True)):
        monkeypatch.setenv("DETKIT_MAX_MEGAPIXELS", limit)
        if reads:
            assert read_image(path).shape == (1500, 2000, 3) and read_image_size(path) == (1500, 2000)
            continue
        for read in (read_image, read_image_size):
            with pytest.raises(
                UserError, match=r"x.png: it claims 3 megapixels, above the limit of 2.9; .*MAX_MEGAPIXELS"
            ):
                read(path)
    monkeypatch.setenv("DETKIT_MAX_MEGAPIXELS", "many")
    with pytest.raises(UserError, match="DETKIT_MAX_MEGAPIXELS=many: a number of megapixels"):
        read_image(path)
