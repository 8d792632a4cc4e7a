"""Parse ids, names and numbers of COCO files as many tools spell them."""

from __future__ import annotations


def id_text(value: object) -> str | None:
    """An id as the text that it is compared by; None where it is none."""
    if isinstance(value, str):
        return (value.strip() or None) if is_text(value) else None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def is_text(value: str) -> bool:
    """Whether a string can be a name: JSON may hold halves of a character."""
    return value.isascii() or not any(0xD800 <= ord(character) < 0xE000 for character in value)


def ascending(category_id: str) -> tuple[bool, int, str]:
    """Numbers by value, then what is none by letters."""
    digits = category_id.removeprefix("-")
    is_number = digits.isascii() and digits.isdecimal() and len(digits) < 20
    return not is_number, int(category_id) if is_number else 0, category_id


def number_of(value: object) -> float | None:
    """A number, also one written as text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def shorten(value: object) -> str:
    """A value as a message shows it."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
