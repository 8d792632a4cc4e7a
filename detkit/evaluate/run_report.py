"""Write a run's report as one self-contained HTML file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from detkit.core.errors import UserError
from detkit.core.plain import Metrics
from detkit.profiling.roofline import Profile, format_profile
from detkit.task.base import AnyTask
from detkit.view.chart import Point, line_chart, meter, stacked_bar
from detkit.view.numbers import value_at
from detkit.view.page import embedded, html_page, section

SHOWN_AS_TEXT = {"confusion", "stages", "loss"}  # plots that the page has as tables and charts of its own


def write_report(run_dir: str | Path, task: AnyTask, pictures: Sequence[Image.Image] = ()) -> Path:
    """Write `report.html` into a run folder from what is there, and return its path.

    Taken are metrics.json, metrics.jsonl, config.yaml, environment.json and plots/*.png; what is missing is left out.
    task: whose metrics they are. pictures: annotated examples to show.
    Raises UserError where the folder has neither metrics file.
    """
    run_dir = Path(run_dir)
    metrics = _read_json(run_dir / "metrics.json")
    history = read_history(run_dir / "metrics.jsonl")
    if not metrics and not history:
        raise UserError(f"{run_dir} is no run folder with results: it has neither metrics.json nor metrics.jsonl")
    environment = _read_json(run_dir / "environment.json") or metrics.get("environment", {})
    before, after = task.sections(metrics)
    sections = [
        _header(run_dir, metrics, environment, task.tiles(metrics) if metrics else {}),
        _curves(history, task.curves),
        *before,
        _examples(pictures, task.legend),
        _plots([path for path in sorted((run_dir / "plots").glob("*.png")) if path.stem not in SHOWN_AS_TEXT]),
        *after,
        _proposals(metrics.get("proposals")),
        _timing(metrics.get("timing")),
        _profile(metrics.get("profile")),
        _details(run_dir, metrics, environment),
    ]
    path = run_dir / "report.html"
    path.write_text(html_page(run_name(run_dir), sections), encoding="utf-8")
    return path


def run_name(run_dir: Path) -> str:
    """The two last folders: what was run, and when."""
    return " / ".join(run_dir.resolve().parts[-2:])


def read_history(path: Path) -> list[Metrics]:
    """The rows of a metrics.jsonl; a last line that was cut off by a crash is left out, no file is no rows."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _header(run_dir: Path, metrics: Metrics, environment: Metrics, of_task: Mapping[str, str]) -> str:
    tiles = dict(of_task)
    median = value_at(metrics, "timing", "total_ms", "p50")
    if median is not None:
        tiles["ms per image, p50"] = f"{median:.1f}"
    boxes = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in tiles.items() if value)
    protocol = metrics.get("protocol", {})
    counts = [
        f"{protocol[key]} {name}"
        for key, name in (("num_images", "images"), ("num_objects", "objects"), ("num_detections", "detections"))
        if key in protocol
    ]
    made = [str(environment[key]) for key in ("time", "device") if environment.get(key)]
    return (
        f'<h1>{escape(run_name(run_dir))}</h1><p class="soft">{escape(", ".join([*counts, *made]))}</p>'
        f'<div class="tiles">{boxes}</div>'
    )


def _curves(history: Sequence[Metrics], names: Mapping[str, str]) -> str:
    def line(key: str, scale: float = 1) -> list[Point]:
        return [(float(row["step"]), scale * row[key]) for row in history if _is_number(row.get(key))]

    losses = sorted({key for row in history for key in row if key.startswith("train/loss/")})
    charts = [
        line_chart({key.removeprefix("train/loss/"): line(key) for key in losses}, "steps", "Training loss"),
        line_chart({name: line(f"val/{key}", 100) for key, name in names.items()}, "steps", "Validation, %"),
    ]
    return section("Training", f'<div class="two">{"".join(charts)}</div>' if any(charts) else "")


def _examples(pictures: Sequence[Image.Image], told: str) -> str:
    shown = "".join(f'<img alt="detections" src="{embedded(picture)}">' for picture in pictures)
    note = f'<p class="soft">{escape(told)}</p>'
    return section("Examples", f'{note}<div class="pictures">{shown}</div>' if shown else "")


def _plots(paths: Sequence[Path]) -> str:
    shown = "".join(
        f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        for path in paths
    )
    return section("Plots", f'<div class="two plots">{shown}</div>' if shown else "")


def _proposals(proposals: Metrics | None) -> str:
    columns = {"recall_50": "recall@0.5", "recall_70": "recall@0.7", "average_recall": "average recall"}
    rows = "".join(
        f"<tr><th>best {escape(count)}</th>{''.join(f'<td>{meter(row.get(key))}</td>' for key in columns)}</tr>"
        for count, row in (proposals or {}).items()
        if isinstance(row, Mapping)
    )
    head = "".join(f"<th>{name}</th>" for name in ("proposals", *columns.values()))
    return section("Proposals", f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>' if rows else "")


def _timing(timing: Mapping[str, Any] | None) -> str:
    if not timing:
        return ""
    stages = {name: _mean_ms(value) for name, value in timing.get("stages_ms", {}).items()}
    facts = ", ".join(f"{key} {value}" for key, value in timing.items() if isinstance(value, (str, int, float)))
    total = ", ".join(f"{key} {value:.1f} ms" for key, value in timing.get("total_ms", {}).items() if _is_number(value))
    return section(
        "Time per image",
        f'<p class="soft">{escape("; ".join(filter(None, (total, facts))))}</p>{stacked_bar(stages, "ms")}',
    )


def _profile(profile: Profile | None) -> str:
    text = f"<pre>{escape(format_profile(profile))}</pre>" if profile else ""
    return section("Against the machine", text)


def _details(run_dir: Path, metrics: Metrics, environment: Metrics) -> str:
    config = run_dir / "config.yaml"
    blocks = {
        "Protocol": json.dumps(metrics["protocol"], indent=2) if "protocol" in metrics else "",
        "Config": config.read_text(encoding="utf-8") if config.is_file() else "",
        "Environment": json.dumps(environment, indent=2) if environment else "",
    }
    folded = "".join(
        f"<details><summary>{name}</summary><pre>{escape(text)}</pre></details>"
        for name, text in blocks.items()
        if text
    )
    return section("What it was made with", folded)


def _read_json(path: Path) -> Metrics:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _mean_ms(value: float | Mapping[str, float]) -> float:
    return float(value["mean"] if isinstance(value, Mapping) else value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
