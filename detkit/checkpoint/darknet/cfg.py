"""Parse and write Darknet's `.cfg` files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from detkit.core.errors import UserError
from detkit.core.text_file import UnreadableTextError, read_text
from detkit.model.darknet.section import Sections


def parse_cfg(text: str, source: str = "the cfg") -> list[tuple[str, dict[str, str]]]:
    """(name, options) of every section in order, [net] first, values as text.

    Lines that begin with # or ; are comments; spaces mean nothing, as in Darknet. Of an option given twice the first
    counts, as there. Raises UserError naming `source` and the line.
    """
    sections: list[tuple[str, dict[str, str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = "".join(line.split())
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            name, bracket, rest = line[1:].partition("]")
            if not bracket or (rest and rest[0] not in "#;"):
                raise UserError(f"{source}, line {number}: {line} is not a section like [convolutional]")
            sections.append((name, {}))
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise UserError(f"{source}, line {number}: {line} is neither a [section] nor an option like key=value")
        if not sections:
            raise UserError(f"{source}, line {number}: {line} comes before the first [section]")
        sections[-1][1].setdefault(key, value.partition("#")[0])
    if not sections:
        raise UserError(f"{source} has no section")
    return sections


def format_cfg(sections: Sections) -> str:
    """The text of a `.cfg` file with these sections."""
    return "\n".join("".join(_lines(str(name), options.items())) for name, options in sections)


def read_cfg(path: str | Path) -> list[tuple[str, dict[str, str]]]:
    """As `parse_cfg`, of a file."""
    try:
        text = read_text(path)
    except UnreadableTextError:  # a comment in an encoding of its own; what counts is ASCII
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return parse_cfg(text, str(path))


def line_of_section(path: str | Path, index: int) -> int:
    """The line of a `.cfg` file, from 1 on, in which the section `index` begins, as `Section` counts them."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return [number for number, line in enumerate(lines, start=1) if line.strip()[:1] == "["][index + 1]


def _lines(name: str, options: Iterable[tuple[str, str]]) -> Iterable[str]:
    yield f"[{name}]\n"
    for key, value in options:
        yield f"{key}={value}\n"
