"""Assemble the rows of a comparison, derive differences and speed-ups, write table and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit.profiling.cpu_load import describe_load
from detkit.task.base import Task
from detkit.view.compare_page import Table, factor

Row = dict[str, Any]
WIDEST_GAP = 0.03  # between the stages and the total; beyond that the times are noise

# The columns of the table by the stages they hold: of files, of two-stage detectors, of one-stage ones
STAGE_COLUMNS = {
    "decode": ("decode",),
    "preprocess": ("preprocess",),
    "transfer": ("transfer",),
    "proposals": ("proposals",),
    "backbone": ("backbone",),
    "neck": ("neck",),
    "RPN": ("proposer",),
    "RoI pooling": ("roi_head.roi_pool",),
    "head": ("roi_head", "dense_head"),
    "postprocess": ("postprocess",),
}


def summary(values: Sequence[float | None]) -> dict[str, Any] | None:
    """mean, sd (sample standard deviation, None for one value) and the values, of those that are not None."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "sd": sd, "values": known}


def accuracy_of(task: Task[Any, Any], metrics: Sequence[Mapping[str, Any]]) -> Row:
    """The accuracies of one row, from the metrics.json of each of its seeds."""
    found = [task.accuracies(entry) for entry in metrics]
    recalls = [entry.get("proposals") for entry in metrics]
    best = [_most_proposals(recall) for recall in recalls if recall]
    return {
        "protocol": metrics[0]["protocol"] if metrics else {},
        **{key: summary([entry[key] for entry in found]) for key in task.columns},
        "recall_50": summary([entry["recall_50"] for entry in best]),
        "proposals_per_image": summary([recall["proposals_per_image"] for recall in recalls if recall]),
    }


def _most_proposals(recall: Mapping[str, Any]) -> Mapping[str, Any]:
    return recall[max((key for key in recall if key.isdigit()), key=int)]


def stage_columns(stages_ms: Mapping[str, float]) -> dict[str, float | None]:
    """Milliseconds by column of the table, None for what the detector does not have; the sum stays the same."""
    found: dict[str, float | None] = {}
    for column, stages in STAGE_COLUMNS.items():
        known = [stages_ms[stage] for stage in stages if stage in stages_ms]
        found[column] = sum(known) if known else None
    rest = sum(stages_ms.values()) - sum(value for value in found.values() if value is not None)
    return found | {"other": rest}


def relate(rows: Sequence[Row], main: str) -> None:
    """Set in each row what follows from the others: speed_up, against the slowest, and delta, against the first.

    main: the accuracy that delta is of. A time that lacks what the regions took has no speed_up and is none to compare
    with. delta: {"mean", "se"}; se is the standard error of the difference of the means, None where a row has one seed
    only.
    """
    whole = [row for row in rows if row.get("timing") and row["timing"].get("regions") != "unknown"]
    slowest = max((row["timing"]["total_ms"]["p50"] for row in whole), default=None)
    first = next((row for row in rows if row.get(main)), None)
    for row in rows:
        timing, accuracy = row.get("timing"), row.get(main)
        row["speed_up"] = slowest / timing["total_ms"]["p50"] if timing and slowest and row in whole else None
        row["delta"] = None
        if accuracy and first is not None and row is not first:
            errors = [_squared_error(item) for item in (accuracy, first[main])]
            se = None if None in errors else math.sqrt(sum(errors))  # type: ignore[arg-type]
            row["delta"] = {"mean": accuracy["mean"] - first[main]["mean"], "se": se}


def _squared_error(item: Mapping[str, Any]) -> float | None:
    return None if item["sd"] is None else item["sd"] ** 2 / len(item["values"])


def write_comparison(folder: Path, comparison: Mapping[str, Any]) -> str:
    """Write compare.json, compare.csv and compare.md into `folder`; returns the text of the last."""
    folder.mkdir(parents=True, exist_ok=True)
    text = format_markdown(comparison)
    (folder / "compare.json").write_text(json.dumps(comparison, indent=2) + "\n", encoding="utf-8")
    (folder / "compare.csv").write_text(format_csv(comparison["rows"], comparison["task"]), encoding="utf-8")
    (folder / "compare.md").write_text(text, encoding="utf-8")
    return text


def format_csv(rows: Sequence[Row], accuracy: Mapping[str, Any]) -> str:
    """A line for each row, plain numbers: accuracies as fractions, times in ms, empty where there is none."""
    buffer = io.StringIO()
    flat = [_flat(row, accuracy) for row in rows]
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in flat for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def _flat(row: Row, accuracy: Mapping[str, Any]) -> dict[str, Any]:
    main = accuracy["main"]
    timing = row.get("timing") or {}
    cells: dict[str, Any] = {"name": row["name"], "seeds": " ".join(map(str, row["seeds"]))}
    for key in (*accuracy["columns"], "recall_50", "proposals_per_image"):
        cells |= {key: (row.get(key) or {}).get("mean"), f"{key}_sd": (row.get(key) or {}).get("sd")}
    cells |= {f"delta_{main}{suffix}": (row["delta"] or {}).get(key) for suffix, key in (("", "mean"), ("_se", "se"))}
    cells |= {f"{key}_ms": timing.get("total_ms", {}).get(key) for key in ("mean", "p50", "p95")}
    cells |= {"speed_up": row["speed_up"], "images_timed": timing.get("images"), "stage_gap": timing.get("stage_gap")}
    cells |= {"side": row.get("side"), "proposals": timing.get("regions")}
    stages = row.get("stages") or {}
    cells |= {f"{column.replace(' ', '_')}_ms": stages.get(column) for column in (*STAGE_COLUMNS, "other")}
    cells |= {key: row.get(key) for key in ("parameters", "flops", "peak_memory")}
    return cells | {"errors": "; ".join(row["errors"])}


def format_markdown(comparison: Mapping[str, Any]) -> str:
    """Both tables with what has to be known to read them."""
    parts = [part for table in tables_of(comparison) for part in (f"**{table.title}**", _markdown(table), table.note)]
    return "\n\n".join([*parts, format_protocol(comparison["protocol"])]) + "\n"


def _markdown(table: Table) -> str:
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)], *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def tables_of(comparison: Mapping[str, Any]) -> list[Table]:
    """The table of accuracy, speed and cost, and where the time goes."""
    rows = comparison["rows"]
    timed = [row for row in rows if row.get("timing")]
    return [_main_table(rows, comparison["task"]), *([_stage_table(timed)] if timed else [])]


def describe_task(task: Task[Any, Any]) -> dict[str, Any]:
    """What compare.json says of the task: the headings of its accuracies, the main one, how to read its pictures."""
    return {"columns": dict(task.columns), "main": task.main, "legend": task.legend}


def _accuracy_cells(accuracy: Mapping[str, Any]) -> dict[str, Callable[[Row], str]]:
    """The cells of the accuracies by heading; the difference to the first row comes behind the one that it is of."""
    cells: dict[str, Callable[[Row], str]] = {}
    for key, heading in accuracy["columns"].items():
        cells[heading] = lambda row, key=key: _percent(row.get(key))  # type: ignore[misc]
        if key == accuracy["main"]:
            cells["Δ"] = lambda row: _delta(row["delta"])
    return cells


def _main_table(rows: Sequence[Row], accuracy: Mapping[str, Any]) -> Table:
    columns: dict[str, Callable[[Row], str]] = {
        "model": lambda row: row["name"],
        "side, px": lambda row: str(row.get("side") or "–"),  # noqa: RUF001
        **_accuracy_cells(accuracy),
        "s per image, p50": lambda row: _seconds(row, "p50"),
        "p95": lambda row: _seconds(row, "p95"),
        "speed-up": lambda row: factor(row["speed_up"]),
        "parameters, M": lambda row: _number(row.get("parameters"), 1e6),
        "GFLOPs": lambda row: _number(row.get("flops"), 1e9),
        "memory, MB": lambda row: _number(row.get("peak_memory"), 2**20),
        "recall@.5": lambda row: _percent(row.get("recall_50")),
        "regions": lambda row: _number((row.get("proposals_per_image") or {}).get("mean"), 1),
    }
    several = any(row[key] and row[key]["sd"] is not None for row in rows for key in accuracy["columns"])
    note = [
        "Accuracies in %" + (", mean ± standard deviation over the seeds." if several else "."),
        f"Δ: of {accuracy['columns'][accuracy['main']]}, against the first row"
        + (", ± the standard error of that difference." if several else "; one seed does not tell it from noise."),
        "Speed-up: of p50, against the slowest. GFLOPs: of one image, 2 for a multiply-add; convolutions and matrix",
        "products only, without proposals from outside. Side: the short one of an image, its height or its square.",
        "Memory: the peak above what was held before, without the weights. Recall: of the objects, by the best 1,000",
        "of the regions that the model looks at.",
        *(f"Attention, {row['name']}: {error}." for row in rows for error in row["errors"]),
    ]
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    return Table("Accuracy, speed and cost", list(columns), cells, " ".join(note))


def _stage_table(timed: Sequence[Row]) -> Table:
    shown = [name for name in (*STAGE_COLUMNS, "other") if any(row["stages"].get(name) is not None for row in timed)]
    lines = [
        [
            row["name"],
            *(_milliseconds(row["stages"].get(name)) for name in shown),
            _milliseconds(row["timing"]["total_ms"]["mean"]),
            f"{100 * row['timing']['stage_gap']:+.1f} %",
            str(row["timing"]["images"]),
        ]
        for row in timed
    ]
    off = [row["name"] for row in timed if abs(row["timing"]["stage_gap"]) > WIDEST_GAP]
    note = [
        "Means. The total was measured apart, without looking inside; gap: how far the stages are off it.",
        *_about_regions(timed),
        *([f"Attention: {told}."] if (told := describe_load(timed[0]["timing"].get("load"))) else []),
        *([f"More than 3 % off: {', '.join(off)}; time again while the machine does nothing else."] if off else []),
    ]
    return Table(
        "Where the time goes, ms per image", ["model", *shown, "total", "gap", "images"], lines, " ".join(note)
    )


def _about_regions(timed: Sequence[Row]) -> list[str]:
    """Sentences on where the column of proposals comes from."""
    by_kind: dict[str, list[str]] = {}
    for row in timed:
        by_kind.setdefault(row["timing"].get("regions"), []).append(row["name"])
    told = {
        "computed": "Proposals: computed in the timed pass, on this machine and its threads.",
        "recorded": "Proposals of {}: as recorded when they were computed, perhaps on another machine.",
        "unknown": "Attention, {}: what the proposals took is not known, and the total lacks them.",
    }
    return [told[kind].format(", ".join(names)) for kind, names in by_kind.items() if kind in told]


def format_protocol(protocol: Mapping[str, Any]) -> str:
    """How the numbers were made, as one paragraph."""
    budget, seeds = (", ".join(map(str, protocol[key])) for key in ("budget", "seeds"))
    trained = f"Training: {budget}, seeds {seeds}." if budget else "Trained before."
    return (
        f"Protocol: {protocol['num_images']} images of {protocol['data']} with {protocol['num_objects']} objects, "
        f"{protocol['num_difficult']} difficult ones ignored. {trained} Time: from the file on disk to boxes in memory,"
        f" batch {protocol['batch']}, {protocol['runtime']}, {protocol['precision']}, {protocol['device_name']} "
        f"({protocol['device']}), {protocol['threads']} threads, {protocol['warmup']} images to warm up, the median of "
        f"{protocol['passes']} passes, {protocol['order']}. detkit {protocol['detkit']}, torch {protocol['torch']}, "
        f"{protocol['time']}."
    )


def _percent(item: Mapping[str, Any] | None) -> str:
    if item is None:
        return "–"  # noqa: RUF001
    return f"{100 * item['mean']:.1f}" + ("" if item["sd"] is None else f" ± {100 * item['sd']:.1f}")


def _delta(item: Mapping[str, Any] | None) -> str:
    if item is None:
        return "–"  # noqa: RUF001
    return f"{100 * item['mean']:+.1f}" + ("" if item["se"] is None else f" ± {100 * item['se']:.1f}")


def _seconds(row: Row, key: str) -> str:
    return f"{row['timing']['total_ms'][key] / 1000:.3g}" if row.get("timing") else "–"  # noqa: RUF001


def _number(value: float | None, unit: float) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    return f"{value / unit:,.0f}" if value >= 100 * unit else f"{value / unit:.3g}"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"  # noqa: RUF001
