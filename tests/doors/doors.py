"""What a new user tries, and what detkit answers: one `Door` is a row of README.md here, and a test."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
# A training of a few steps: what a door that only wants to get to the end of one adds to its command.
QUICK = (
    "model=ssd_light model.backbone.pretrained=false preprocess.height=64 preprocess.width=64 trainer.budget=2it "
    "loader.batch_size=2 loader.num_workers=0 evaluation.timing_images=0 evaluation.pictures=0 device=cpu"
)


class Door(NamedTuple):
    """One thing a user does, and the answer.

    kind: the kind of slip or need, in a few words; source: where somebody had it. given: what lies in the folder.
    command: after `detkit`, as in a shell, in a folder of its own; QUICK stands for the arguments above. A door
        that is a call and not a command writes it as it would stand in a program.
    code: the exit code. says: the words of the answer; each line of it must be in the output.
    make: writes the input into the folder. needs: "D" (a drawn set, in VOC layout, splits train, val, test), "RUN" (a
        finished training on it), both in the folder. check: looks at what there is afterwards: folder, output.
    act: does it in place of the command: folder -> (exit code, output).
    slow: whether it waits for a training of more than a few steps.
    """

    kind: str
    given: str
    command: str
    code: int
    says: str
    source: str = ""
    make: Callable[[Path], object] | None = None
    needs: tuple[str, ...] = ()
    check: Callable[[Path, str], object] | None = None
    act: Callable[[Path], tuple[int, str]] | None = None
    slow: bool = False


def rooms() -> Iterator[tuple[str, list[Door]]]:
    """(title, doors) of each test module here: the first line of its docstring, its DOORS."""
    for path in sorted(HERE.glob("test_*.py")):
        name = f"doors_of_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if hasattr(module, "DOORS"):
            yield (module.__doc__ or path.stem).partition("\n")[0].rstrip("."), module.DOORS


def table() -> str:
    """README.md: every door, by room."""
    parts = [
        "# Doors",
        "",
        "What people bring and type, after public bug reports, and what detkit answers today. Written by "
        "`python tests/doors/doors.py` from the tests beside it, each of which is one row: a command, its exit code, "
        "and words that its output must hold.",
        "",
        f"`D` is a small drawn data set in VOC layout, `RUN` a finished training on it, `QUICK` stands for `{QUICK}`.",
    ]
    for title, doors in rooms():
        parts += ["", f"## {title}", "", "| kind | input | command | exit | says |", "|---|---|---|---|---|"]
        parts += [
            f"| {_cell(door.kind)}{_cell(f' ({door.source})') if door.source else ''} | {_cell(door.given)} "
            f"| {_code(door.command)} | {door.code} | {'<br>'.join(map(_code, door.says.split(chr(10))))} |"
            for door in doors
        ]
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _code(text: str) -> str:
    """In backticks, as many as it takes."""
    text = _cell(text.strip())
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}" if "`" in text else f"{ticks}{text}{ticks}" if text else ""


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    (HERE / "README.md").write_text(table(), encoding="utf-8")
