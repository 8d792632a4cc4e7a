"""Read text files of other tools in whatever encoding they declare or show."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from detkit.core.errors import UserError
from detkit.core.plain import Json

# longest first: the mark of UTF-32 LE begins with that of UTF-16 LE
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(r"""^\s*<\?xml[^>]*?\bencoding\s*=\s*["']([^"']*)["'][^>]*\?>""")


class UnreadableTextError(UserError):
    """A text file whose bytes are no text in any encoding that it declares or shows."""


def read_text(path: str | Path) -> str:
    """Read a text file as UTF-8, or as UTF-16 or UTF-32 where a byte order mark or its zero bytes show that.

    Raises UnreadableTextError for any other bytes, FileNotFoundError and other OSErrors as they are.
    """
    path = Path(path)
    return _decode(path.read_bytes(), path)


def read_lines(path: str | Path) -> list[str]:
    """Read the lines of a text file without their ends and outer white space; empty ones are left out."""
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text without outer white space) of the lines of a text file that are not empty."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(path)), start=1):
        if text := line.strip():
            yield number, text


def read_json(path: str | Path) -> Json:
    """Read a JSON file in any encoding that `read_text` reads.

    Raises UserError naming the file and the line where it is no JSON; OSErrors as they are.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        hint = "; is there a comma too many?" if "property name" in error.msg or "trailing comma" in error.msg else ""
        raise UserError(f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}{hint}") from error
    except RecursionError as error:
        raise UserError(f"{path} is not JSON that can be read: it is nested too deeply") from error


def read_xml(path: str | Path) -> ElementTree.Element:
    """Read the root element of an XML file, decoded as it declares, by Python's codecs rather than expat's few.

    `encoding="utf8"` and the multi-byte encodings (GB2312, Shift_JIS, ...) are read. One that Python does not know is
    passed over where the bytes are UTF-8. Raises UserError naming the file where it is no XML; OSErrors as they are.
    """
    path = Path(path)
    data = path.read_bytes()
    head = _DECLARED.match(data[:400].decode("latin-1"))
    marked = any(data.startswith(mark) for mark, _ in _MARKS)
    declared = head[1] if head and not marked else None  # a byte order mark knows better than a copied first line
    text = _decode(data, path, declared)
    if (first_line := _DECLARED.match(text)) is not None:  # for expat the text is decoded already
        text = text[first_line.end() :]
    try:
        return ElementTree.fromstring(text.lstrip())
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is not XML: {error}{_explain_xml(text, error)}") from error


def _decode(data: bytes, path: Path, declared: str | None = None) -> str:
    seen = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _by_zeros(data)
    if declared is not None and re.match(r"(?i)utf[-_]?(16|32)", declared):
        declared = None  # the declaration itself was read byte by byte, so the file is not
    for name in filter(None, (declared, seen or "utf-8")):
        try:
            return data.decode(name)
        except LookupError:  # no encoding of text that Python knows
            continue
        except UnicodeDecodeError as error:
            byte = f"byte {error.start} is {data[error.start]:#04x}"
            what = f"declares encoding={name}, but {byte}" if name == declared else f"is not UTF-8 ({byte})"
            raise UnreadableTextError(f"{path} {what}: open it in an editor and save it as UTF-8") from error
    raise AssertionError("utf-8 and utf-16 are always known")


def _by_zeros(data: bytes) -> str | None:
    """UTF-16 without a mark: text of mostly Latin letters has a zero in every other byte."""
    sample = data[:1000]
    pairs = len(sample) // 2
    if pairs < 2:
        return None
    if sample[1::2].count(0) > 0.7 * pairs and sample[0::2].count(0) == 0:
        return "utf-16-le"
    if sample[0::2].count(0) > 0.7 * pairs and sample[1::2].count(0) == 0:
        return "utf-16-be"
    return None


def _explain_xml(text: str, error: ElementTree.ParseError) -> str:
    """What is probably meant by the two slips that make most broken XML files."""
    line, column = error.position
    lines = text.lstrip().split("\n")
    rest = lines[line - 1][max(column - 1, 0) :] if 0 < line <= len(lines) else ""
    if not text.strip():
        return "; the file is empty"
    if re.match(r".?&(?!\w+;|#\d+;)", rest) or re.match(r"&(?!\w+;|#\d+;)", lines[line - 1][column:] if lines else ""):
        return "; in XML a & is written &amp;"
    return ""
