"""Merge the jobs of a `compare` multirun into one comparison, again after each of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from detkit.compare.comparison import Comparison, Row, relate, tables_of, write_comparison
from detkit.view.compare_page import write_compare_page


def write_sweep(folder: Path) -> Path:
    """Write the table and the page of all jobs in `folder` that are done, in their order; returns the page."""
    found: dict[str, Comparison] = {
        path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/compare.json"), key=_number)
    }
    rows: list[Row] = []
    for job, done in found.items():
        for row in done["rows"]:
            rows.append({**row, "pictures": [f"{job}/{path}" for path in row.get("pictures", ())]})
    for row, name in zip(rows, distinct_names(rows), strict=True):
        row["name"] = name
    first = next(iter(found.values()))
    relate(rows, first["task"]["main"])
    protocols = [one["protocol"] for one in found.values()]
    comparison: Comparison = {
        "protocol": {
            **first["protocol"],
            "order": "one job after the other",
            "budget": sorted({budget for protocol in protocols for budget in protocol["budget"]}),
            "seeds": sorted({seed for protocol in protocols for seed in protocol["seeds"]}),
        },
        "task": first["task"],
        "rows": rows,
        "environment": first["environment"],
    }
    write_comparison(folder, comparison)
    return write_compare_page(folder, comparison, tables_of(comparison))


def distinct_names(rows: Sequence[Row]) -> list[str]:
    """A name for each row: its own where those differ, and the overrides that not all rows have."""
    differ = len({row["name"] for row in rows}) > 1
    names = []
    for row in rows:
        special = [
            override
            for override in row["overrides"]
            if not all(override in other["overrides"] for other in rows) and override != f"model={row['name']}"
        ]
        names.append(", ".join([*([row["name"]] if differ or not special else []), *special]))
    return names


def _number(path: Path) -> tuple[int, str]:
    """Jobs are numbered: 10 comes after 9."""
    name = path.parent.name
    return (int(name) if name.isdigit() else 10**9, name)
