"""Measuring: one split for all, null as a choice, no dependence on the batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from doors import Door

OTHER = "eval checkpoint=RUN evaluation.timing_images=0 evaluation.num_workers=0 device=cpu run_dir=out"
COMPARE = (
    "compare QUICK trainer.budget=1it evaluation.num_workers=0 evaluation.timing_images=1 evaluation.timing_warmup=0 "
    "data=voc data.root=D run_dir=out"
)


def without_test(folder: Path) -> None:
    """A data set that has train and val only."""
    (folder / "D" / "ImageSets" / "Main" / "test.txt").unlink()


def measured_on(split: str) -> Callable[[Path, str], None]:
    def look(folder: Path, _: str) -> None:
        assert f"split={split}" in json.loads((folder / "out" / "metrics.json").read_text())["protocol"]["split"]

    return look


def one_split(folder: Path, _: str) -> None:
    rows = json.loads((folder / "out" / "compare.json").read_text())["rows"]
    found = {(row["protocol"]["split"], row["protocol"]["num_objects"]) for row in rows}
    assert len(rows) == 2
    assert len(found) == 1 and "split=val" in found.pop()[0]
    assert not any(row["errors"] for row in rows)


DOORS = [
    Door("null is a choice", "D without test, RUN trained with one", f"{OTHER} data=voc data.root=D",
         0, "written to out", source="ultralytics 523", make=without_test, needs=("D", "RUN"),
         check=measured_on("val")),
    Door("null is a choice", "D, RUN trained with a test split", f"{OTHER} data.root=D data.test_split=null",
         0, "written to out", needs=("D", "RUN"), check=measured_on("val")),
    Door("what is not chosen is the checkpoint's", "D, RUN", f"{OTHER} data.root=D", 0, "written to out",
         needs=("D", "RUN"), check=measured_on("test")),
    Door("a run and a training in one table", "RUN trained with a test split, D", f"{COMPARE} models=[RUN,ssd_light]",
         0, "written to out", source="ultralytics 17987", needs=("D", "RUN"), check=one_split, slow=True),
    Door("rows that would be measured on different splits", "RUN, and a model that measures on test",
         f"{COMPARE} 'models=[ssd_light,{{b: [\"model=ssd_light\", \"data.test_split=test\"]}}]'",
         2, "these would not be measured alike\nsplit=val\nsplit=test", needs=("D",)),
    Door("rows that would be asked for different objects", "RUN of all classes, a training on one",
         f"{COMPARE} 'models=[ssd_light,{{b: [\"model=ssd_light\", \"data.classes=[star]\"]}}]'",
         2, "these would not be measured alike\ndata.classes=['star']", needs=("D",)),
]  # fmt: skip


@pytest.mark.parametrize("door", [pytest.param(d, marks=pytest.mark.slow) if d.slow else d for d in DOORS],
                         ids=lambda door: door.command)  # fmt: skip
def test_door(walk: Callable[[Door], str], door: Door) -> None:
    walk(door)
