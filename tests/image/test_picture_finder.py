"""The picture that an annotation names is found, however it is written, or it is said why not."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from detkit.image.picture_finder import PictureFinder, list_pictures
from detkit.image.read import IMAGE_SUFFIXES, is_picture


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def found(root: Path, name: str, *folders: str) -> str | None:
    path = PictureFinder([root / folder for folder in folders or ("images",)], root).find(name).path
    return None if path is None else Path(path).relative_to(root).as_posix()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "images/a.jpg"),
        ("./a.jpg", "images/a.jpg"),
        ("train/b.png", "images/train/b.png"),
        (r"C:\data\train\b.png", "images/train/b.png"),
        ("/home/someone/set/train/b.png", "images/train/b.png"),
        ("../images/a.jpg", "images/a.jpg"),
        ("a", "images/a.jpg"),
        ("a.png", "images/a.jpg"),
        ("A.JPG", "images/a.jpg"),
        ("b.png", "images/train/b.png"),
        ("v1.2", "images/v1.2.jpg"),
        ("c.jpg", None),
    ],
)
def test_a_picture_is_found_by_the_name_that_a_tool_wrote(tmp_path, name, path):
    assert found(write(tmp_path, "images/a.jpg", "images/train/b.png", "images/v1.2.jpg"), name) == path


def test_an_absolute_path_is_itself(tmp_path):
    write(tmp_path, "set/images/a.jpg", "other/b.jpg")
    finder = PictureFinder([tmp_path / "set/images"], tmp_path / "set")
    assert finder.find(str(tmp_path / "other/b.jpg")).path == str(tmp_path / "other/b.jpg")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_compared_in_one_form(tmp_path, form):
    stored = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "é/ü.jpg")
    write(tmp_path, f"images/{stored}")
    assert found(tmp_path, unicodedata.normalize(form, "é/ü.jpg")) == f"images/{stored}"


def test_the_name_to_the_letter_wins_over_another_case_and_the_first_folder_over_the_second(tmp_path):
    write(tmp_path, "one/a.jpg", "one/A.jpg", "two/a.jpg")
    assert found(tmp_path, "A.jpg", "one", "two") == "one/A.jpg"
    assert found(tmp_path, "a.jpg", "two", "one") == "two/a.jpg"


@pytest.mark.parametrize(
    ("names", "asked"), [(("images/a.jpg", "images/a.png"), "a"), (("x/q.jpg", "y/q.jpg"), "q.jpg")]
)
def test_two_candidates_are_a_fault_that_names_both(tmp_path, names, asked):
    result = PictureFinder([write(tmp_path, *names) / "images"], tmp_path).find(asked)
    assert result.path is None
    assert result.kind == "ambiguous image"
    assert all(name in result.reason for name in names)


def test_a_missing_picture_says_where_it_was_looked_for(tmp_path):
    result = PictureFinder([tmp_path / "images", tmp_path], tmp_path).find("a.jpg")
    assert result.kind == "missing image"
    assert str(tmp_path / "images") in result.reason


def test_pictures_are_listed_through_links_once_and_the_rest_is_counted(tmp_path):
    write(tmp_path, "set/a.JPG", "set/deep/b.webp", "set/c.heic", "set/d.txt", "set/.hidden.jpg", "far/e.png")
    (tmp_path / "set/link").symlink_to(tmp_path / "far")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    listing = list_pictures(tmp_path / "set")
    assert [path.relative_to(tmp_path / "set").as_posix() for path in listing.paths] == [
        "a.JPG", "deep/b.webp", "link/e.png",
    ]  # fmt: skip
    assert listing.passed_over == {".heic": 1}


def test_pictures_are_what_pillow_decodes():
    assert {".jpg", ".jfif", ".jp2", ".webp", ".avif", ".mpo", ".bmp", ".tif"} <= IMAGE_SUFFIXES
    assert not {".pdf", ".eps", ".ps", ".mpg", ".h5", ".txt", ".xml", ".json"} & IMAGE_SUFFIXES
    assert is_picture("x/A.JPG")
    assert not is_picture("jpg")
