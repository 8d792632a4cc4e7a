"""Render the frame of HTML pages: one self-contained file, in light and dark."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from importlib.resources import files

from PIL import Image

PICTURE_WIDTH = 480


def html_page(title: str, sections: Iterable[str]) -> str:
    """The text of a page; sections that are empty are left out."""
    style = files("detkit.view").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)} – detkit</title><style>{style}</style></head><body>"  # noqa: RUF001
        f"{''.join(filter(None, sections))}</body></html>\n"
    )


def section(title: str, body: str) -> str:
    """A part of a page under its title; nothing where there is nothing to show."""
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def embedded(picture: Image.Image) -> str:
    """The picture, made small, as the address of an image that is inside the page."""
    small = picture.copy()
    small.thumbnail((PICTURE_WIDTH, 2 * PICTURE_WIDTH))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
