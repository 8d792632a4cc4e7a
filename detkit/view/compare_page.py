"""Render a comparison as one HTML page: speed, accuracy, time per stage, detections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from detkit.view.chart import css_colour, legend
from detkit.view.page import embedded, html_page, section
from detkit.view.scatter import Spot, scatter


class Table(NamedTuple):
    """Cells as text, the first of each row its name, and what has to be said below."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str


class Timed(NamedTuple):
    """What is shown of a detector that was timed.

    median, mean: ms of an image. stages: ms of its parts, None for one that it does not have. speed_up: against the
    slowest, None where the time lacks a part. accuracy: the main one, a fraction, None where it was not measured; sd:
    its standard deviation over the seeds.
    """

    name: str
    median: float
    mean: float
    stages: dict[str, float | None]
    speed_up: float | None
    accuracy: float | None
    sd: float


def write_compare_page(folder: Path, comparison: Mapping[str, Any], tables: Sequence[Table]) -> Path:
    """Write compare.html into `folder`, where the pictures are that the rows name; returns its path.

    comparison: what compare.json holds. tables: shown as they are.
    """
    rows, task = comparison["rows"], comparison["task"]
    timed = [_timed(row, task["main"]) for row in rows if row.get("timing")]
    heading = task["columns"][task["main"]]
    sections = [
        _header(len(rows), comparison["protocol"]),
        _speed(timed, heading),
        _trade_off(timed, heading),
        _stages(timed),
        *(section(escape(table.title), _table(table)) for table in tables),
        _pictures([(row["name"], row["pictures"]) for row in rows if row.get("pictures")], task["legend"], folder),
        _details(comparison),
    ]
    path = folder / "compare.html"
    path.write_text(html_page("Detectors side by side", sections), encoding="utf-8")
    return path


def _timed(row: Mapping[str, Any], main: str) -> Timed:
    """Read a row of compare.json; main: the key of the accuracy."""
    total, accuracy = row["timing"]["total_ms"], row.get(main)
    return Timed(
        name=row["name"],
        median=total["p50"],
        mean=total["mean"],
        stages=row["stages"],
        speed_up=row["speed_up"],
        accuracy=accuracy["mean"] if accuracy else None,
        sd=(accuracy["sd"] or 0.0) if accuracy else 0.0,
    )


def _header(num_detectors: int, protocol: Mapping[str, object]) -> str:
    facts = [
        f"{num_detectors} detectors",
        f"{protocol['num_images']} images of {protocol['data']}",
        f"{protocol['device_name']}, {protocol['threads']} threads",
        str(protocol["time"]),
    ]
    return f'<h1>Detectors side by side</h1><p class="soft">{escape(" · ".join(facts))}</p>'


def _speed(rows: Sequence[Timed], heading: str) -> str:
    """Bars to scale, the slowest first, with the factor to it in large figures; a time that lacks a part has none."""
    ordered = sorted(rows, key=lambda row: -row.median)
    if not ordered:
        return ""
    lines = []
    for row in ordered:
        width = 100 * row.median / ordered[0].median
        quality = "" if row.accuracy is None else f"{100 * row.accuracy:.1f} %"
        lines.append(
            f'<tr><th>{escape(row.name)}</th><td class="n factor">{factor(row.speed_up)}</td>'
            f'<td class="wide"><div class="scale"><span style="width:{width:.3f}%"></span></div></td>'
            f'<td class="n">{seconds(row.median)}</td><td class="n">{quality}</td></tr>'
        )
    note = (
        '<p class="soft">Median time of one image, bars to scale; the factor is to the slowest. On the right '
        f"{escape(heading)}.</p>"
    )
    return section("How fast", f'{note}<div class="scroll"><table class="race">{"".join(lines)}</table></div>')


def _trade_off(rows: Sequence[Timed], heading: str) -> str:
    spots = {row.name: Spot(row.median, 100 * row.accuracy, 100 * row.sd) for row in rows if row.accuracy is not None}
    note = (
        '<p class="soft">Up is better, left is faster; filled: no other one is both. Bars: standard deviation over '
        "the seeds, where there are several.</p>"
    )
    chart = scatter(spots, "ms per image, p50 (logarithmic)", f"{heading}, %")
    return section("Accuracy and time", note + chart if chart else "")


def _stages(rows: Sequence[Timed]) -> str:
    """For each detector the shares of its own time; a colour is the same stage in all."""
    names = list(dict.fromkeys(name for row in rows for name, value in row.stages.items() if value is not None))
    lines = []
    for row in rows:
        shares = {name: max(row.stages.get(name) or 0.0, 0.0) for name in names}
        total = sum(shares.values()) or 1.0
        segments = "".join(
            f'<span style="width:{100 * value / total:.2f}%;background:{css_colour(index)}" '
            f'title="{escape(name)}: {value:.1f} ms, {100 * value / total:.0f} %">'
            f"{escape(name) if value / total > 0.12 else ''}</span>"
            for index, (name, value) in enumerate(shares.items())
        )
        lines.append(
            f'<tr><th>{escape(row.name)}</th><td class="wide"><div class="stack">{segments}</div></td>'
            f'<td class="n">{seconds(row.mean)}</td></tr>'
        )
    if not lines:
        return ""
    note = f'<p class="soft">Each bar is the whole of one detector, however long.{legend(names)}</p>'
    return section(
        "Where the time goes", f'{note}<div class="scroll"><table class="race">{"".join(lines)}</table></div>'
    )


def _table(table: Table) -> str:
    lines = [
        f"<tr><th>{escape(cells[0])}</th>" + "".join(f'<{tag} class="n">{escape(cell)}</{tag}>' for cell in cells[1:])
        for tag, cells in [("th", table.head), *(("td", cells) for cells in table.rows)]
    ]
    body = f'<table class="dense">{"</tr>".join(lines)}</tr></table>'
    return f'<div class="scroll">{body}</div><p class="soft">{escape(table.note)}</p>'


def _pictures(shown: Sequence[tuple[str, Sequence[str]]], told: str, folder: Path) -> str:
    """A column for each detector, a line for each image; shown: names, and the pictures as paths from `folder`."""
    if not shown:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in shown)
    lines = zip(*([embedded(Image.open(folder / path)) for path in paths] for _, paths in shown), strict=False)
    body = "".join(
        "<tr>" + "".join(f'<td><img alt="detections" src="{address}"></td>' for address in line) + "</tr>"
        for line in lines
    )
    note = f'<p class="soft">{escape(told)}</p>'
    return section(
        "What each saw", f'{note}<div class="scroll"><table class="views"><tr>{head}</tr>{body}</table></div>'
    )


def _details(comparison: Mapping[str, Any]) -> str:
    commands = {row["name"]: " ".join(row["overrides"]) or str(row["checkpoint"]) for row in comparison["rows"]}
    blocks = {
        "Protocol": comparison["protocol"],
        "Trainings: overrides of detkit train": commands,
        "Environment": comparison["environment"],
    }
    texts = {name: escape(json.dumps(content, indent=2, ensure_ascii=False)) for name, content in blocks.items()}
    folded = "".join(f"<details><summary>{name}</summary><pre>{text}</pre></details>" for name, text in texts.items())
    return section("What it was made with", folded)


def factor(value: float | None) -> str:
    """A speed-up: 1x, 9.6x, 250x, with the sign of multiplication."""
    if value is None:
        return "–"  # noqa: RUF001
    return f"{value:.1f}×" if 1.05 <= value < 10 else f"{value:.0f}×"  # noqa: RUF001


def seconds(milliseconds: float) -> str:
    """Three figures, in ms below one second."""
    return f"{milliseconds / 1000:.3g} s" if milliseconds >= 1000 else f"{milliseconds:.3g} ms"
