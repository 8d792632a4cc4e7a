"""Merge the jobs of a `compare` multirun into one comparison, again after each of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from detkit.compare.comparison import Row, relate, tables_of, write_comparison
from detkit.view.compare_page import write_compare_page


def write_sweep(folder: Path) -> Path:
    """Write the table and the page of all jobs in `folder` that are done, in their order; returns the page."""
    found = {
        path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/compare.json"), key=_number)
    }
    rows = []
    for job, comparison in found.items():
        for row in comparison["rows"]:
            rows.append(row | {"pictures": [f"{job}/{path}" for path in row.get("pictures", ())]})
    for row, name in zip(rows, distinct_names(rows), strict=True):
        row["name"] = name
    first = next(iter(found.values()))
    relate(rows, first["task"]["main"])
    protocol = first["protocol"] | {"order": "one job after the other"}
    protocol |= {
        key: sorted({value for one in found.values() for value in one["protocol"][key]}) for key in ("budget", "seeds")
    }
    comparison = {
        "protocol": protocol,
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
