"""Text of other people's tools comes out as text, or as one line that says what to do."""

from __future__ import annotations

import codecs

import pytest

from detkit.core.errors import UserError
from detkit.core.text_file import UnreadableTextError, numbered_lines, read_json, read_lines, read_text, read_xml

TEXT = "naïve čaj\nžebra 猫\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marked_text_comes_out_as_it_was_written(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    assert read_text(tmp_path / "a.txt") == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", [b"", None])
def test_utf_16_is_seen_with_and_without_its_mark(tmp_path, encoding, mark):
    marks = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    (tmp_path / "a.txt").write_bytes(
        (marks[encoding] if mark is None else mark) + "000001\r\n000002\r\n".encode(encoding)
    )
    assert read_lines(tmp_path / "a.txt") == ["000001", "000002"]


def test_lines_keep_their_numbers_and_end_at_line_ends_only(tmp_path):
    (tmp_path / "a.txt").write_bytes("a\u2028b\r\n\r\n c \rd\x0c".encode())
    assert list(numbered_lines(tmp_path / "a.txt")) == [(1, "a\u2028b"), (3, "c"), (4, "d")]


def test_other_bytes_are_named_with_what_to_do(tmp_path):
    (tmp_path / "a.txt").write_bytes("中文".encode("gbk"))
    with pytest.raises(UnreadableTextError, match=r"a\.txt is not UTF-8 \(byte 0 is 0xd6\).*save it as UTF-8"):
        read_text(tmp_path / "a.txt")


def test_json_in_utf_16_and_with_a_mark(tmp_path):
    for encoding in ("utf-16", "utf-8-sig", "utf-8"):
        (tmp_path / "a.json").write_bytes('{"é": [1]}'.encode(encoding))
        assert read_json(tmp_path / "a.json") == {"é": [1]}


@pytest.mark.parametrize("text", ['{"a": 1,}', "[1, 2,]", "", "<html>", "[" * 100_000])
def test_broken_json_names_the_file(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json is not JSON"):
        read_json(tmp_path / "a.json")


XML = '<?xml version="1.0" encoding="{}"?>\n<annotation><name>{}</name></annotation>'


@pytest.mark.parametrize(
    ("declared", "codec", "word"),
    [
        ("utf8", "utf-8", "猫é"),
        ("UTF-8", "utf-8-sig", "猫é"),
        ("GB2312", "gb2312", "猫"),
        ("Shift_JIS", "shift_jis", "猫"),
        ("iso-8859-1", "latin-1", "é"),
        ("unicode", "utf-16", "猫é"),
        ("utf-16", "utf-8", "猫é"),
        ("no-such-thing", "utf-8", "猫é"),
        ("base64", "utf-8", "猫é"),
    ],
)
def test_xml_is_decoded_as_it_declares(tmp_path, declared, codec, word):
    (tmp_path / "a.xml").write_bytes(XML.format(declared, word).encode(codec))
    assert read_xml(tmp_path / "a.xml").findtext("name") == word


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<a><b>salt & pepper</b></a>", "in XML a & is written &amp;"),
        (b"", "the file is empty"),
        (b"<a><b></a>", "mismatched tag"),
        (XML.format("gb2312", "").encode() + b"\xff\xff", "declares encoding=gb2312"),
        (b"<a>\xff</a>", "is not UTF-8"),
    ],
)
def test_broken_xml_names_the_file_and_the_slip(tmp_path, data, says):
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.xml") as caught:
        read_xml(tmp_path / "a.xml")
    assert says in str(caught.value)
