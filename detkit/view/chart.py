"""Render small charts as SVG and HTML text, without scripts, in light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from detkit.core.palette import class_colour

Point = tuple[float, float]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 220, 46, 26, 10


def css_colour(label: int) -> str:
    """The colour of a class, as CSS."""
    return "#{:02x}{:02x}{:02x}".format(*class_colour(label))


def line_chart(lines: Mapping[str, Sequence[Point]], x_title: str, title: str) -> str:
    """An SVG of named lines of (x, y), y from 0 up, with a legend; empty text where no line has a point."""
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return ""
    x_max = max(x for points in lines.values() for x, _ in points) or 1.0
    y_max = nice_ceiling(max(y for points in lines.values() for _, y in points))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for share in (0, 0.2, 0.4, 0.6, 0.8, 1):
        y = _y(share * y_max, y_max)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share * y_max:.3g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">0</text>')
    parts.append(f'<text x="{WIDTH}" y="{HEIGHT - 6}" text-anchor="end">{x_max:.4g} {escape(x_title)}</text>')
    for index, points in enumerate(lines.values()):
        path = " ".join(f"{_x(x, x_max):.1f},{_y(y, y_max):.1f}" for x, y in thinned(points))
        parts.append(f'<polyline points="{path}" stroke="{css_colour(index)}"/>')
        if len(points) == 1:
            parts.append(
                f'<circle cx="{_x(points[0][0], x_max):.1f}" cy="{_y(points[0][1], y_max):.1f}" r="3"'
                f' fill="{css_colour(index)}"/>'
            )
    parts.append("</svg>")
    return f"<figure><figcaption>{escape(title)}{legend(list(lines))}</figcaption>{''.join(parts)}</figure>"


def stacked_bar(values: Mapping[str, float], unit: str) -> str:
    """One bar whose segments are the positive `values`, with a legend that says each number."""
    positive = {name: value for name, value in values.items() if value > 0}
    total = sum(positive.values())
    if not total:
        return ""
    segments = "".join(
        f'<span style="width:{100 * value / total:.2f}%;background:{css_colour(index)}" title="{escape(name)}"></span>'
        for index, (name, value) in enumerate(positive.items())
    )
    names = [f"{name} {value:.1f} {unit}" for name, value in positive.items()]
    return f'<div class="stack">{segments}</div><p>{legend(names)}</p>'


def legend(names: Sequence[str]) -> str:
    """A coloured square and a name for each."""
    return "".join(
        f'<span class="key"><i style="background:{css_colour(index)}"></i>{escape(name)}</span>'
        for index, name in enumerate(names)
    )


def meter(share: float | None) -> str:
    """A bar of `share` (0..1) with the percentage; a dash for None."""
    if share is None:
        return "–"  # noqa: RUF001
    return f'<div class="meter"><span style="width:{100 * share:.1f}%"></span><b>{100 * share:.1f}</b></div>'


def heat_table(rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A table of counts, darker where a cell holds more of its row."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = []
    for name, row in zip(rows, counts, strict=True):
        total = sum(row) or 1
        cells = "".join(f'<td class="n" style="--share:{count / total:.3f}">{count}</td>' for count in row)
        body.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f'<table class="heat"><tr><td></td>{head}</tr>{"".join(body)}</table>'


def thinned(points: Sequence[Point], most: int = 300) -> list[Point]:
    """At most about `most` points: means of equal runs, so that noise does not fill the page."""
    size = max(1, -(-len(points) // most))
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def nice_ceiling(value: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below `value`; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def _x(value: float, largest: float) -> float:
    return LEFT + (WIDTH - LEFT - 4) * value / largest


def _y(value: float, largest: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / largest
