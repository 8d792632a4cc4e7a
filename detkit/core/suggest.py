"""Suggest the known word that a mistyped one probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def nearest(word: str, words: Iterable[str], alike: float = 0.6) -> str | None:
    """The one of `words` most like `word`, whatever the case of their letters; None where none is alike.

    alike: the least share of letters in common, 0..1, after Python's difflib. `word` itself is no answer.
    """
    by_letters: dict[str, list[str]] = {}
    for other in words:
        if other != word:
            by_letters.setdefault(other.lower(), []).append(other)
    close = get_close_matches(word.lower(), by_letters, n=1, cutoff=alike)
    return by_letters[close[0]][0] if close else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """What to add to a message about an unknown word: "; did you mean ...?", or nothing."""
    guess = nearest(word, words)
    return f"; did you mean {guess}?" if guess else ""


def among(name: str, names: Sequence[str]) -> str:
    """What to add to a message about an unknown name: the nearest known one, and all of them."""
    guess = nearest(name, names)
    return (f"; did you mean {guess!r}?" if guess else "") + f" (known: {', '.join(names) or 'none'})"
