"""One section of a Darknet network: its name, index and options, with errors that name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from detkit.core.errors import UserError

T = TypeVar("T", int, float)

# A whole network as plain data, [net] first, which is what a checkpoint holds: (name, options as text) per section.
Sections: TypeAlias = Sequence[Sequence[Any]]


class SectionError(UserError):
    """An error in the section `index`, -1 for [net]."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True)
class Section:
    """A section; index: as routes count it, -1 for [net]; options: text by key; asked: keys read so far."""

    index: int
    name: str
    options: Mapping[str, str]
    asked: set[str] = field(default_factory=set, compare=False)

    def __str__(self) -> str:
        return f"section {self.index} [{self.name}]" if self.index >= 0 else f"[{self.name}]"

    def error(self, message: str) -> SectionError:
        """Create the exception that says `message` of this section."""
        return SectionError(f"Darknet {self}: {message}", self.index)

    def integer(self, key: str, default: int | None = None) -> int:
        """Read a whole number; required if there is no default."""
        return self._one(key, default, int, "a whole number")

    def number(self, key: str, default: float | None = None) -> float:
        """Read a number; required if there is no default."""
        return self._one(key, default, float, "a number")

    def word(self, key: str, default: str) -> str:
        """Read text as it stands."""
        self.asked.add(key)
        return self.options.get(key, default)

    def integers(self, key: str) -> list[int]:
        """Read whole numbers between commas, at least one."""
        return self._several(key, int)

    def numbers(self, key: str) -> list[float]:
        """Read numbers between commas, at least one."""
        return self._several(key, float)

    def _one(self, key: str, default: T | None, kind: Callable[[str], T], expected: str) -> T:
        self.asked.add(key)
        text = self.options.get(key)
        if text is None:
            if default is None:
                raise self.error(f"{key}=... is missing")
            return default
        try:
            return kind(text)
        except ValueError:
            raise self.error(f"{key}={text} is not {expected}") from None

    def _several(self, key: str, kind: Callable[[str], T]) -> list[T]:
        self.asked.add(key)
        text = self.options.get(key, "")
        try:
            values = [kind(part) for part in text.split(",") if part.strip()]
        except ValueError:
            values = []
        if not values:
            raise self.error(f"{key}={text} is not a list of numbers" if text else f"{key}=... is missing")
        return values


def number_sections(sections: Sections) -> tuple[Section, list[Section]]:
    """Number the sections of plain data: [net] and the layers. Raises UserError if [net] is not first."""
    numbered = [Section(index, str(name), options) for index, (name, options) in enumerate(sections, start=-1)]
    if not numbered or numbered[0].name not in ("net", "network"):
        raise UserError(f"a Darknet network begins with [net], not with {numbered[0] if numbered else 'nothing'}")
    return numbered[0], numbered[1:]
