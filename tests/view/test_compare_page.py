from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image

from detkit.view.compare_page import Table, factor, write_compare_page
from detkit.view.scatter import CHARACTER, LINE, Spot, frontier, log_ticks, place_names, scatter, ticks

TASK = {"columns": {"mAP_area": "mAP@.5, area"}, "main": "mAP_area", "legend": "Ground truth is dashed."}
PROTOCOL = {
    "data": "a <set>", "num_images": 4, "device_name": "a chip", "threads": 2, "time": "now",
}  # fmt: skip


def row(name: str, p50: float | None, pictures: list[str]) -> dict[str, Any]:
    timing = None if p50 is None else {"total_ms": {"mean": p50, "p50": p50, "p95": p50}}
    return {
        "name": name,
        "overrides": [f"model={name}"],
        "checkpoint": "x",
        "mAP_area": {"mean": 0.5, "sd": 0.01, "values": [0.49, 0.51]},
        "timing": timing,
        "speed_up": None if p50 is None else 2500.0 / p50,
        "stages": None if p50 is None else {"backbone": p50 - 1, "neck": None, "other": 1.0},
        "pictures": pictures,
    }


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "pictures" / "a_0.jpg")
    rows = [row("R-CNN & co", 2500.0, ["pictures/a_0.jpg"]), row("quick", 10.0, ["pictures/a_0.jpg"])]
    rows += [row("failed", None, []), row("lacking", 20.0, []) | {"speed_up": None}]
    table = Table("The table", ["model", "mAP"], [["quick", "5 < 6"]], "a note")
    path = write_compare_page(
        tmp_path, {"protocol": PROTOCOL, "task": TASK, "rows": rows, "environment": {"k": 1}}, [table]
    )
    page = path.read_text()
    for part in (
        "R-CNN &amp; co",
        "250\u00d7",
        '<th>lacking</th><td class="n factor">\u2013</td>',
        "2.5 s",
        "50.0 %",
        "5 &lt; 6",
        "a note",
        "a &lt;set&gt;",
        "<svg",
        "model=quick",
    ):
        assert part in page, part
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r"https?://|<script|<link|url\(|src=\"(?!data:)", page)


def test_a_page_without_times_is_a_table(tmp_path: Path) -> None:
    comparison = {"protocol": PROTOCOL, "task": TASK, "rows": [row("failed", None, [])], "environment": {}}
    page = write_compare_page(tmp_path, comparison, []).read_text()
    assert "How fast" not in page and "<svg" not in page


def test_factors() -> None:
    assert [factor(value) for value in (1.0, 1.04, 1.3, 9.96, 250.4, None)] == [
        "1\u00d7",
        "1\u00d7",
        "1.3\u00d7",
        "10.0\u00d7",
        "250\u00d7",
        "\u2013",
    ]


def test_the_frontier_is_what_no_other_beats() -> None:
    spots = {"a": Spot(10, 50), "b": Spot(20, 40), "c": Spot(30, 60), "d": Spot(10, 45), "e": Spot(40, 60)}
    assert frontier(spots) == ["a", "c"]
    chart = scatter(spots, "ms", "mAP")
    assert chart.count('class="spot"') == 2 and chart.count('class="spot beaten"') == 3
    assert scatter({}, "ms", "mAP") == ""
    assert scatter({"alone": Spot(5, 0)}, "ms", "mAP").count("<circle") == 1


def test_ticks_enclose() -> None:
    assert ticks(50.2, 61) == [50, 52.5, 55, 57.5, 60, 62.5]
    assert ticks(3, 3)[0] <= 3 <= ticks(3, 3)[-1]
    assert list(log_ticks(8, 90)) == [10, 20, 50]
    assert list(log_ticks(1, 5000)) == [1, 10, 100, 1000]


def test_names_do_not_cover_each_other() -> None:
    centres = {f"model number {index}": (100.0 + 3 * index, 100.0 + index) for index in range(6)}
    centres["far right"] = (750.0, 100.0)
    found = place_names(centres)
    assert found["far right"][0] + CHARACTER * len("far right") < 750
    boxes = [(x, x + CHARACTER * len(name), y) for name, (x, y) in found.items()]
    for index, (start, end, y) in enumerate(boxes):
        for other_start, other_end, other_y in boxes[:index]:
            assert end <= other_start or other_end <= start or abs(y - other_y) >= LINE
