"""Pictures that are decoded once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.core.errors import UserError
from detkit.data import decode_cache as decoded
from detkit.data.decode_cache import DecodedImages
from detkit.data.formats.voc.voc import read_voc
from detkit.image.read import read_image


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(path, exif=exif)
    return path


def test_it_gives_what_the_decoder_gives_and_decodes_once(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, turned, stored = DecodedImages(tmp_path / "kept"), read_image(picture), read_image(picture, upright=False)
    for _ in range(2):
        np.testing.assert_array_equal(read(picture), turned)
        np.testing.assert_array_equal(read(picture, upright=False), stored)
        monkeypatch.setattr(decoded, "read_image", lambda *_, **__: pytest.fail("decoded again"))
    assert turned.shape != stored.shape and read(picture).flags.writeable


def test_pictures_of_several_reductions_are_kept_apart(picture: Path, tmp_path: Path) -> None:
    read = DecodedImages(tmp_path / "kept")
    for _ in range(2):
        assert [read(picture, reduction=reduction).shape[:2] for reduction in (1, 2, 4)] == [(30, 20), (15, 10), (8, 5)]


def test_a_changed_picture_and_a_broken_copy_are_decoded_again(picture: Path, tmp_path: Path) -> None:
    read = DecodedImages(tmp_path / "kept")
    first = read(picture)
    (kept,) = read.folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    np.testing.assert_array_equal(read(picture), first)
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(picture)
    os.utime(picture, ns=(1, 1))
    assert read(picture).shape == (5, 6, 3)


def test_files_that_cannot_be_read_are_named_as_ever(tmp_path: Path) -> None:
    read = DecodedImages(tmp_path / "kept")
    with pytest.raises(UserError, match="no such image"):
        read(tmp_path / "none.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"cannot read image .*bad\.jpg"):
        read(tmp_path / "bad.jpg")


def test_the_space_is_told_and_checked(make_voc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read_voc(make_voc({"a": [], "b": []}), "train", ["cat"])
    read = DecodedImages(tmp_path / "kept")
    assert "0.00 GiB when all are there" in read.need([split])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 3})())
    with pytest.raises(UserError, match=r"decode_cache=.*kept.*only 0\.00 GiB are free; name another folder"):
        read.need([split])
    for path in split.image_paths:
        read(path)
    assert "0.00 GiB free" in read.need([split])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"decode_cache=.*cannot make this folder"):
        DecodedImages(tmp_path / "file" / "x").need([])
