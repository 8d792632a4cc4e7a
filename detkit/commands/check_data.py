"""Run `detkit check_data`: report every fault of a data set, and write a repaired copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from detkit.config.node import Config
from detkit.core.errors import UserError
from detkit.data.quality.check import check_dataset, read_splits
from detkit.data.quality.repair import Policy
from detkit.data.quality.repaired_copy import check_empty, write_repaired


def run_check(config: Config) -> int:
    """Print the report, write what is asked for; 0 where the data set is clean, else 1."""
    policy = config.data.repair
    if policy not in get_args(Policy):
        raise UserError(f"data.repair={policy}: choose one of {', '.join(get_args(Policy))}")
    if config.output is not None:
        check_empty(Path(config.output))
    data = config.data.copy()
    data.repair = "clip"  # with "error" a reader would stop at the first fault
    splits = read_splits(data)
    report = check_dataset(splits)
    print(report.text(config.limit))
    if config.report is not None:
        path = Path(config.report)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
        print(f"all faults: {path}")
    if config.output is not None:
        if policy == "error" and report.faults:
            first = report.faults[0]
            raise UserError(f"data.repair=error: no copy is written: {first.where}: {first.kind}: {first.message}")
        print(write_repaired(splits, report.inspections, Path(config.output), policy))
    return int(bool(report.faults))
