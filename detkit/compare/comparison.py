"""Assemble the rows of a comparison, derive differences and speed-ups, write table and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, cast

from detkit.core.plain import Metrics
from detkit.profiling.cpu_load import describe_load
from detkit.profiling.speed import Timing
from detkit.task.base import Task
from detkit.view.compare_page import Table, factor

AnyTask: TypeAlias = Task[Any, Any]  # a comparison looks at no results, only at the accuracies that come of them

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


class Summary(TypedDict):
    """A number over the seeds; sd: the sample standard deviation, None for one value."""

    mean: float
    sd: float | None
    values: list[float]


class Delta(TypedDict):
    """A difference of means; se: its standard error, None where one of both has one seed only."""

    mean: float
    se: float | None


class MeasuredOn(TypedDict, total=False):
    """What a comparison reads of the protocol in metrics.json, which tells more."""

    split: str
    num_images: int
    num_objects: int
    num_difficult: int


class Row(TypedDict, total=False):
    """The line of a contender in compare.json; beside these keys the accuracies of the task, each a `Summary`.

    overrides: of its training. seeds: those whose training or evaluation succeeded. errors: a sentence for each that
    did not. checkpoint: what is timed. protocol: of its first metrics.json. side: the short one of its images, as its
    preprocess is called by. flops: of one image. peak_memory: bytes above the weights. pictures: paths from the folder
    of the comparison. stages: milliseconds by column of the table. speed_up, delta: see `relate`. What was not measured
    is None, or not there where nothing could be loaded.
    """

    name: str
    overrides: Sequence[str]
    seeds: list[int]
    errors: list[str]
    checkpoint: str | None
    protocol: MeasuredOn
    recall_50: Summary | None
    proposals_per_image: Summary | None
    parameters: int
    side: int
    pictures: list[str]
    flops: int | None
    peak_memory: int | None
    timing: Timing | None
    stages: dict[str, float | None] | None
    speed_up: float | None
    delta: Delta | None


class TaskColumns(TypedDict):
    """What compare.json says of the task: headings of its accuracies by key, the main one, how to read its pictures."""

    columns: dict[str, str]
    main: str
    legend: str


class ComparisonProtocol(TypedDict):
    """What has to be known to read the numbers: the data, the trainings, and how the time was taken."""

    data: str | None
    num_images: int | None
    num_objects: int | None
    num_difficult: int | None
    difficult: str
    budget: list[str]
    seeds: list[int]
    runtime: str
    precision: str
    channels_last: bool
    batch: int
    warmup: int
    passes: int
    order: str
    device: str
    device_name: str
    threads: int
    detkit: str
    torch: str
    time: str


class Comparison(TypedDict):
    """What compare.json holds; environment: as of `describe_environment`."""

    protocol: ComparisonProtocol
    task: TaskColumns
    rows: list[Row]
    environment: Mapping[str, object]


def summary(values: Sequence[float | None]) -> Summary | None:
    """The summary of those values that are not None; None where there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "sd": sd, "values": known}


def accuracy_of(task: AnyTask, metrics: Sequence[Metrics]) -> Row:
    """The accuracies of one row, with its protocol, from the metrics.json of each of its seeds."""
    found = [task.accuracies(entry) for entry in metrics]
    recalls = [entry.get("proposals") for entry in metrics]
    best = [_most_proposals(recall) for recall in recalls if recall]
    row: Row = {"protocol": metrics[0]["protocol"] if metrics else {}}
    row |= cast(Row, {key: summary([entry[key] for entry in found]) for key in task.columns})
    row |= {
        "recall_50": summary([entry["recall_50"] for entry in best]),
        "proposals_per_image": summary([recall["proposals_per_image"] for recall in recalls if recall]),
    }
    return row


def _most_proposals(recall: Mapping[str, Any]) -> Mapping[str, float | None]:
    most: Mapping[str, float | None] = recall[max((key for key in recall if key.isdigit()), key=int)]
    return most


def accuracy_in(row: Row, key: str) -> Summary | None:
    """An accuracy of the task in a row; None where it could not be measured."""
    return cast("Mapping[str, Summary | None]", row).get(key)


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
    whole = [timing for row in rows if (timing := row.get("timing")) and timing.get("regions") != "unknown"]
    slowest = max((timing["total_ms"]["p50"] for timing in whole), default=None)
    first = next((accuracy for row in rows if (accuracy := accuracy_in(row, main))), None)
    for row in rows:
        timing, accuracy = row.get("timing"), accuracy_in(row, main)
        row["speed_up"] = slowest / timing["total_ms"]["p50"] if timing and slowest and timing in whole else None
        row["delta"] = None
        if accuracy and first is not None and accuracy is not first:
            mine, others = _squared_error(accuracy), _squared_error(first)
            se = None if mine is None or others is None else math.sqrt(mine + others)
            row["delta"] = {"mean": accuracy["mean"] - first["mean"], "se": se}


def _squared_error(item: Summary) -> float | None:
    return None if item["sd"] is None else item["sd"] ** 2 / len(item["values"])


def write_comparison(folder: Path, comparison: Comparison) -> str:
    """Write compare.json, compare.csv and compare.md into `folder`; returns the text of the last."""
    folder.mkdir(parents=True, exist_ok=True)
    text = format_markdown(comparison)
    (folder / "compare.json").write_text(json.dumps(comparison, indent=2) + "\n", encoding="utf-8")
    (folder / "compare.csv").write_text(format_csv(comparison["rows"], comparison["task"]), encoding="utf-8")
    (folder / "compare.md").write_text(text, encoding="utf-8")
    return text


def format_csv(rows: Sequence[Row], task: TaskColumns) -> str:
    """A line for each row, plain numbers: accuracies as fractions, times in ms, empty where there is none."""
    buffer = io.StringIO()
    flat = [_flat(row, task) for row in rows]
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in flat for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def _flat(row: Row, task: TaskColumns) -> dict[str, object]:
    cells: dict[str, object] = {"name": row["name"], "seeds": " ".join(map(str, row["seeds"]))}
    for key in (*task["columns"], "recall_50", "proposals_per_image"):
        item = accuracy_in(row, key)
        cells |= {key: item and item["mean"], f"{key}_sd": item and item["sd"]}
    delta, timing, stages = row["delta"], row.get("timing"), row.get("stages") or {}
    cells |= {f"delta_{task['main']}": delta and delta["mean"], f"delta_{task['main']}_se": delta and delta["se"]}
    cells |= {f"{key}_ms": timing and timing["total_ms"].get(key) for key in ("mean", "p50", "p95")}
    cells |= {"speed_up": row["speed_up"], "images_timed": timing and timing.get("images")}
    cells |= {"stage_gap": timing and timing.get("stage_gap"), "side": row.get("side")}
    cells |= {"proposals": timing and timing.get("regions")}
    cells |= {f"{column.replace(' ', '_')}_ms": stages.get(column) for column in (*STAGE_COLUMNS, "other")}
    cells |= {key: row.get(key) for key in ("parameters", "flops", "peak_memory")}
    return cells | {"errors": "; ".join(row["errors"])}


def format_markdown(comparison: Comparison) -> str:
    """Both tables with what has to be known to read them."""
    parts = [part for table in tables_of(comparison) for part in (f"**{table.title}**", _markdown(table), table.note)]
    return "\n\n".join([*parts, format_protocol(comparison["protocol"])]) + "\n"


def _markdown(table: Table) -> str:
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)], *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def tables_of(comparison: Comparison) -> list[Table]:
    """The table of accuracy, speed and cost, and where the time goes."""
    rows = comparison["rows"]
    timed = [(row, timing) for row in rows if (timing := row.get("timing"))]
    return [_main_table(rows, comparison["task"]), *([_stage_table(timed)] if timed else [])]


def describe_task(task: AnyTask) -> TaskColumns:
    """What compare.json says of the task."""
    return {"columns": dict(task.columns), "main": task.main, "legend": task.legend}


def _accuracy_cells(task: TaskColumns) -> dict[str, Callable[[Row], str]]:
    """The cells of the accuracies by heading; the difference to the first row comes behind the one that it is of."""

    def cell(key: str) -> Callable[[Row], str]:
        return lambda row: _percent(accuracy_in(row, key))

    cells: dict[str, Callable[[Row], str]] = {}
    for key, heading in task["columns"].items():
        cells[heading] = cell(key)
        if key == task["main"]:
            cells["Δ"] = lambda row: _delta(row["delta"])
    return cells


def _main_table(rows: Sequence[Row], task: TaskColumns) -> Table:
    columns: dict[str, Callable[[Row], str]] = {
        "model": lambda row: row["name"],
        "side, px": lambda row: str(row.get("side") or "–"),  # noqa: RUF001
        **_accuracy_cells(task),
        "s per image, p50": lambda row: _seconds(row, "p50"),
        "p95": lambda row: _seconds(row, "p95"),
        "speed-up": lambda row: factor(row["speed_up"]),
        "parameters, M": lambda row: _number(row.get("parameters"), 1e6),
        "GFLOPs": lambda row: _number(row.get("flops"), 1e9),
        "memory, MB": lambda row: _number(row.get("peak_memory"), 2**20),
        "recall@.5": lambda row: _percent(row.get("recall_50")),
        "regions": lambda row: _number(_mean(row.get("proposals_per_image")), 1),
    }
    several = any((item := accuracy_in(row, key)) and item["sd"] is not None for row in rows for key in task["columns"])
    note = [
        "Accuracies in %" + (", mean ± standard deviation over the seeds." if several else "."),
        f"Δ: of {task['columns'][task['main']]}, against the first row"
        + (", ± the standard error of that difference." if several else "; one seed does not tell it from noise."),
        "Speed-up: of p50, against the slowest. GFLOPs: of one image, 2 for a multiply-add; convolutions and matrix",
        "products only, without proposals from outside. Side: the short one of an image, its height or its square.",
        "Memory: the peak above what was held before, without the weights. Recall: of the objects, by the best 1,000",
        "of the regions that the model looks at.",
        *(f"Attention, {row['name']}: {error}." for row in rows for error in row["errors"]),
    ]
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    return Table("Accuracy, speed and cost", list(columns), cells, " ".join(note))


def _stage_table(timed: Sequence[tuple[Row, Timing]]) -> Table:
    stages = [row["stages"] or {} for row, _ in timed]
    shown = [name for name in (*STAGE_COLUMNS, "other") if any(own.get(name) is not None for own in stages)]
    lines = [
        [
            row["name"],
            *(_milliseconds(own.get(name)) for name in shown),
            _milliseconds(timing["total_ms"]["mean"]),
            f"{100 * timing['stage_gap']:+.1f} %",
            str(timing["images"]),
        ]
        for (row, timing), own in zip(timed, stages, strict=True)
    ]
    off = [row["name"] for row, timing in timed if abs(timing["stage_gap"]) > WIDEST_GAP]
    note = [
        "Means. The total was measured apart, without looking inside; gap: how far the stages are off it.",
        *_about_regions(timed),
        *([f"Attention: {told}."] if (told := describe_load(timed[0][1].get("load"))) else []),
        *([f"More than 3 % off: {', '.join(off)}; time again while the machine does nothing else."] if off else []),
    ]
    return Table(
        "Where the time goes, ms per image", ["model", *shown, "total", "gap", "images"], lines, " ".join(note)
    )


def _about_regions(timed: Sequence[tuple[Row, Timing]]) -> list[str]:
    """Sentences on where the column of proposals comes from."""
    by_kind: dict[str | None, list[str]] = {}
    for row, timing in timed:
        by_kind.setdefault(timing.get("regions"), []).append(row["name"])
    told = {
        "computed": "Proposals: computed in the timed pass, on this machine and its threads.",
        "recorded": "Proposals of {}: as recorded when they were computed, perhaps on another machine.",
        "unknown": "Attention, {}: what the proposals took is not known, and the total lacks them.",
    }
    return [told[kind].format(", ".join(names)) for kind, names in by_kind.items() if kind in told]


def format_protocol(protocol: ComparisonProtocol) -> str:
    """How the numbers were made, as one paragraph."""
    budget, seeds = ", ".join(protocol["budget"]), ", ".join(map(str, protocol["seeds"]))
    trained = f"Training: {budget}, seeds {seeds}." if budget else "Trained before."
    return (
        f"Protocol: {protocol['num_images']} images of {protocol['data']} with {protocol['num_objects']} objects, "
        f"{protocol['num_difficult']} difficult ones ignored. {trained} Time: from the file on disk to boxes in memory,"
        f" batch {protocol['batch']}, {protocol['runtime']}, {protocol['precision']}, {protocol['device_name']} "
        f"({protocol['device']}), {protocol['threads']} threads, {protocol['warmup']} images to warm up, the median of "
        f"{protocol['passes']} passes, {protocol['order']}. detkit {protocol['detkit']}, torch {protocol['torch']}, "
        f"{protocol['time']}."
    )


def _mean(item: Summary | None) -> float | None:
    return None if item is None else item["mean"]


def _percent(item: Summary | None) -> str:
    if item is None:
        return "–"  # noqa: RUF001
    return f"{100 * item['mean']:.1f}" + ("" if item["sd"] is None else f" ± {100 * item['sd']:.1f}")


def _delta(item: Delta | None) -> str:
    if item is None:
        return "–"  # noqa: RUF001
    return f"{100 * item['mean']:+.1f}" + ("" if item["se"] is None else f" ± {100 * item['se']:.1f}")


def _seconds(row: Row, key: Literal["p50", "p95"]) -> str:
    return f"{timing['total_ms'][key] / 1000:.3g}" if (timing := row.get("timing")) else "–"  # noqa: RUF001


def _number(value: float | None, unit: float) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    return f"{value / unit:,.0f}" if value >= 100 * unit else f"{value / unit:.3g}"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"  # noqa: RUF001
