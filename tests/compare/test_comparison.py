from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest

from detkit.compare.comparison import (
    accuracy_of,
    describe_task,
    format_csv,
    format_markdown,
    relate,
    stage_columns,
    summary,
    tables_of,
)
from detkit.compare.merge_multirun import distinct_names
from detkit.task.detection.task import DetectionTask

STAGES = {"decode": 2.0, "backbone": 10.0, "proposer": 4.0, "roi_head.roi_pool": 3.0, "roi_head": 5.0, "other": 1.0}
TASK = DetectionTask()
PROTOCOL = {
    "data": "set", "num_images": 4, "num_objects": 9, "num_difficult": 1, "budget": ["10min"], "seeds": [0, 1],
    "batch": 1, "runtime": "eager", "precision": "fp32",
    "device_name": "a chip", "device": "cpu", "threads": 2, "warmup": 3, "passes": 3,
    "order": "in turn", "detkit": "0", "torch": "2", "time": "now",
}  # fmt: skip


def metrics(value: float, recall: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"protocol": {}, "voc": {"mAP_11pt": value, "mAP_area": value}, "coco": {"AP": value / 2}}
    if recall is not None:
        found["proposals"] = {"100": {"recall_50": 0.1}, "1000": {"recall_50": recall}, "proposals_per_image": 300.0}
    return found


def row(name: str, values: list[float], p50: float | None, **others: Any) -> dict[str, Any]:
    timing = None
    if p50 is not None:
        timing = {
            "total_ms": {"mean": p50, "p50": p50, "p95": p50},
            "stages_ms": STAGES,
            "stage_gap": 0.01,
            "images": 4,
        }
    basis = {"name": name, "overrides": [], "seeds": list(range(len(values))), "errors": [], "checkpoint": "x"}
    stages = stage_columns(STAGES) if timing else None
    costs = {"parameters": 5_000_000, "flops": 2e9, "peak_memory": 2**20} if timing else {}
    return (
        basis
        | accuracy_of(TASK, [metrics(value, 0.9) for value in values])
        | costs
        | {
            "timing": timing,
            "stages": stages,
            **others,
        }
    )


@pytest.fixture
def comparison() -> dict[str, Any]:
    rows = [
        row("slow", [0.5, 0.6], 5000.0),
        row("quick", [0.7, 0.9], 20.0),
        row("failed", [], None, errors=["seed0: TrainingDiverged: nan"]),
    ]
    relate(rows, "mAP_area")
    return {"protocol": PROTOCOL, "task": describe_task(TASK), "rows": rows, "environment": {}}


def test_summary_leaves_out_what_is_unknown() -> None:
    assert summary([None]) is None
    assert summary([0.5, None]) == {"mean": 0.5, "sd": None, "values": [0.5]}
    assert summary([1.0, 3.0]) == {"mean": 2.0, "sd": math.sqrt(2), "values": [1.0, 3.0]}


def test_recall_is_that_of_most_proposals() -> None:
    found = accuracy_of(TASK, [metrics(0.5, 0.8), metrics(0.5, 0.9)])
    assert found["recall_50"]["mean"] == pytest.approx(0.85) and found["proposals_per_image"]["mean"] == 300
    assert accuracy_of(TASK, [metrics(0.5)])["recall_50"] is None
    assert accuracy_of(TASK, [])["mAP_area"] is None


def test_stage_columns_keep_the_sum() -> None:
    found = stage_columns(STAGES | {"custom": 7.0})
    assert sum(value for value in found.values() if value is not None) == pytest.approx(sum(STAGES.values()) + 7)
    assert (found["RPN"], found["RoI pooling"], found["head"], found["other"]) == (4, 3, 5, 8)
    assert found["proposals"] is None


def test_rows_are_related_to_the_slowest_and_the_first(comparison: dict[str, Any]) -> None:
    slow, quick, failed = comparison["rows"]
    assert (slow["speed_up"], quick["speed_up"], failed["speed_up"]) == (1, 250, None)
    assert slow["delta"] is None and failed["delta"] is None
    assert quick["delta"]["mean"] == pytest.approx(0.25)
    assert quick["delta"]["se"] == pytest.approx(math.sqrt(0.1**2 / 4 * 2 / 2 + 0.2**2 / 4 * 2 / 2))  # sd^2 / n


def test_a_total_that_lacks_the_proposals_says_so_and_is_no_factor() -> None:
    rows = [row("lacking", [0.5], 9000.0), row("slow", [0.5], 5000.0), row("quick", [0.5], 20.0)]
    for one, regions in zip(rows, ("unknown", "recorded", "computed"), strict=True):
        one["timing"]["regions"] = regions
    relate(rows, "mAP_area")
    assert [one["speed_up"] for one in rows] == [None, 1, 250]
    text = format_markdown({"protocol": PROTOCOL, "task": describe_task(TASK), "rows": rows, "environment": {}})
    assert "Attention, lacking: what the proposals took is not known, and the total lacks them." in text
    assert "Proposals of slow: as recorded" in text
    assert "Proposals: computed in the timed pass" in text


def test_markdown_says_it_all(comparison: dict[str, Any]) -> None:
    text = format_markdown(comparison)
    for part in (
        "| slow | \u2013 | 55.0 ± 7.1 |", "| 250\u00d7 |", "+25.0 ± 11.2", "| 0.02 |", "Attention, failed: seed0",
        "9 objects", "Training: 10min, seeds 0, 1.",
    ):  # fmt: skip
        assert part in text, part
    main, stages = tables_of(comparison)
    assert len(main.rows) == 3 and len(stages.rows) == 2
    assert all(len(line) == len(table.head) for table in (main, stages) for line in table.rows)
    assert "3 % off" not in text
    comparison["rows"][0]["timing"]["stage_gap"] = -0.04
    assert "More than 3 % off: slow;" in format_markdown(comparison)
    assert "neck" not in stages.head and "RoI pooling" in stages.head


def test_csv_has_plain_numbers(comparison: dict[str, Any]) -> None:
    slow, quick, failed = csv.DictReader(io.StringIO(format_csv(comparison["rows"], comparison["task"])))
    assert float(slow["p50_ms"]) == 5000 and float(quick["speed_up"]) == 250
    assert float(quick["RoI_pooling_ms"]) == 3 and quick["neck_ms"] == ""
    assert failed["mAP_area"] == failed["p50_ms"] == "" and "TrainingDiverged" in failed["errors"]


def test_rows_of_a_sweep_are_named_by_what_differs() -> None:
    def named(name: str, *overrides: str) -> dict[str, Any]:
        return {"name": name, "overrides": ["data=voc", *overrides]}

    pools = [named("m", "model/roi_pool=a"), named("m", "model/roi_pool=b")]
    assert distinct_names(pools) == ["model/roi_pool=a", "model/roi_pool=b"]
    assert distinct_names([named("m", "model=m"), named("n", "model=n", "x=1")]) == ["m", "n, x=1"]
    assert distinct_names([named("m")]) == ["m"]
