"""The rooms of detkit stand one above the other: nothing is imported upwards, and nothing in a circle."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up; a room may import itself and what stands before it. The same list is docs/architecture.md's table.
FLOORS = (
    "core", "config", "image", "ops", "data", "model", "metric", "view", "box_files", "checkpoint", "export", "task",
    "infer", "proposal", "profiling", "run", "evaluate", "train", "svm", "compare", "commands",
)  # fmt: skip
ROOF = ("__init__", "__main__")  # of the package itself: what users import and start
KNOW_HYDRA = ("config", "commands")

Edges = Mapping[str, set[str]]


def imports_of(root: Path) -> dict[str, set[str]]:
    """Of each module below `root`/detkit the modules that it imports anywhere, functions and type checking included.

    Modules go by their dotted names, those outside detkit by their first part.
    """
    files = {module_name(path.relative_to(root)): path for path in (root / "detkit").rglob("*.py")}
    return {name: set(_imported(path, files)) for name, path in files.items()}


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def _imported(path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield _known(name, files) if name.split(".")[0] == "detkit" else name.split(".")[0]


def _known(name: str, files: Mapping[str, Path]) -> str:
    """The module of a dotted name: a package stands for its `__init__`, what a module holds for the module."""
    for known in (name, f"{name}.__init__", name.rpartition(".")[0], f"{name.rpartition('.')[0]}.__init__"):
        if known in files:
            return known
    raise AssertionError(f"no module of detkit: {name}")


def room_of(module: str) -> str:
    return module.split(".")[1]


def upwards(edges: Edges) -> list[str]:
    """The imports that lead to a higher room, as text."""
    height = {room: number for number, room in enumerate(FLOORS)} | dict.fromkeys(ROOF, len(FLOORS))
    return [
        f"{module} imports {other}"
        for module, others in sorted(edges.items())
        for other in sorted(others)
        if other.startswith("detkit.") and height[room_of(other)] > height[room_of(module)]
    ]


def circles(edges: Edges) -> list[list[str]]:
    """Chains of imports that lead back to where they began: one for each that a depth-first walk meets."""
    found, done, path = [], set(), list[str]()

    def visit(module: str) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        path.append(module)
        for other in sorted(edges.get(module, ())):
            visit(other)
        done.add(path.pop())

    for module in sorted(edges):
        visit(module)
    return found


@pytest.fixture(scope="module")
def edges() -> Edges:
    return imports_of(ROOT)


def test_every_package_has_a_floor(edges: Edges) -> None:
    assert {room_of(module) for module in edges} == {*FLOORS, *ROOF}


def test_nothing_is_imported_upwards(edges: Edges) -> None:
    assert upwards(edges) == []


def test_nothing_is_imported_in_a_circle(edges: Edges) -> None:
    assert circles(edges) == []


def test_hydra_is_known_to_config_and_commands_alone(edges: Edges) -> None:
    knowing = [module for module, others in edges.items() if others & {"hydra", "omegaconf"}]
    assert {room_of(module) for module in knowing} == set(KNOW_HYDRA), sorted(knowing)


@pytest.mark.parametrize(
    ("place", "line", "told"),
    [
        (
            "ops/box.py",
            "def late():\n    from detkit.model.detector import Detector",
            "detkit.ops.box imports detkit.model",
        ),
        ("core/errors.py", "import detkit.config.values", "detkit.core.errors imports detkit.config.values"),
        ("model/detector.py", "from detkit import load", "detkit.model.detector imports detkit.__init__"),
    ],
)
def test_a_planted_import_upwards_is_found(tmp_path: Path, place: str, line: str, told: str) -> None:
    assert any(found.startswith(told) for found in upwards(planted(tmp_path, place, line)))


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    line = "def late():\n    from detkit.ops.assign.match import match"
    assert ["detkit.ops.assign.match", "detkit.ops.box", "detkit.ops.assign.match"] in circles(
        planted(tmp_path, "ops/box.py", line)
    )


def planted(folder: Path, place: str, line: str) -> Edges:
    """The imports of a copy of detkit in which `line` is added to the file at `place`."""
    shutil.copytree(ROOT / "detkit", folder / "detkit", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "detkit" / place).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{line}\n")
    return imports_of(folder)


def test_the_map_shows_the_rooms_in_this_order() -> None:
    rows = re.findall(r"^\| `detkit/(\w+)/` \|", (ROOT / "docs" / "architecture.md").read_text(), re.M)
    assert tuple(rows) == FLOORS
