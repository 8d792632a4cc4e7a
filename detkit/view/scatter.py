"""Render labelled points over a logarithmic axis, the non-dominated ones marked, as HTML text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 360, 50, 16, 16, 42
LINE = 15  # from one line of text to the next
CHARACTER = 6.6  # width of one, about, at the size of report.css


class Spot(NamedTuple):
    """What is to be small, > 0; what is to be large; and by how much the latter is unsure (0: unknown)."""

    x: float
    y: float
    spread: float = 0.0


def frontier(spots: Mapping[str, Spot]) -> list[str]:
    """Names of the spots that no other one beats in both, from the smallest x on (the Pareto front)."""
    best, names = -math.inf, []
    for name, spot in sorted(spots.items(), key=lambda item: (item[1].x, -item[1].y)):
        if spot.y > best:
            best = spot.y
            names.append(name)
    return names


def scatter(spots: Mapping[str, Spot], x_title: str, y_title: str) -> str:
    """An SVG of the spots with their names, the frontier filled and joined; empty text where there is no spot."""
    if not spots:
        return ""
    low, high = min(spot.x for spot in spots.values()) / 1.6, max(spot.x for spot in spots.values()) * 1.6
    levels = ticks(
        min(spot.y - spot.spread for spot in spots.values()), max(spot.y + spot.spread for spot in spots.values())
    )

    def at(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / low) / math.log(high / low)
        up = (y - levels[0]) / (levels[-1] - levels[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    title = escape(f"{y_title} over {x_title}")
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">']
    for level in levels:
        y = at(low, level)[1]
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{level:g}</text>')
    for tick in log_ticks(low, high):
        x = at(tick, levels[0])[0]
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_title)}</text>')
    parts.append(f'<text x="{LEFT + 8}" y="{TOP + 10}">{escape(y_title)}</text>')
    front = frontier(spots)
    corners = " ".join("{:.1f},{:.1f}".format(*at(spots[name].x, spots[name].y)) for name in front)
    parts.append(f'<polyline class="front" points="{corners}"/>')
    for name, spot in spots.items():
        x, y = at(spot.x, spot.y)
        if spot.spread:
            ends = [at(spot.x, spot.y + sign * spot.spread)[1] for sign in (1, -1)]
            parts.append(f'<line class="spread" x1="{x:.1f}" y1="{ends[0]:.1f}" x2="{x:.1f}" y2="{ends[1]:.1f}"/>')
        kind = "spot" if name in front else "spot beaten"
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
    centres = {name: at(spot.x, spot.y) for name, spot in spots.items()}
    parts += [
        f'<text class="name" x="{x:.1f}" y="{y + 4:.1f}">{escape(name)}</text>'
        for name, (x, y) in place_names(centres).items()
    ]
    return "".join([*parts, "</svg>"])


def place_names(centres: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Where each name starts, (x, y of its middle): right of its spot or left of it, and below names already there."""
    placed: list[tuple[float, float, float]] = []  # left end, right end, y
    found = {}
    for name, (x, y) in sorted(centres.items(), key=lambda item: item[1][1]):
        width = CHARACTER * len(name)
        left = x + 11 if x + 11 + width <= WIDTH - RIGHT else x - 11 - width
        while any(left < end and start < left + width and abs(y - other) < LINE for start, end, other in placed):
            y += 1
        placed.append((left, left + width, y))
        found[name] = (left, y)
    return found


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most about `most` round levels, evenly spaced, from at or below `low` to above it and at or above `high`."""
    rough = max(high - low, 1e-9) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(step * index, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> Sequence[float]:
    """1, 2 and 5 times powers of ten between `low` and `high`; over three decades or more, the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if high / low > 1e3 else (1, 2, 5)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
