"""What holds for the project as a whole: names, versions, files, and the wheel."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from readme_commands import DOCUMENTS

import detkit
from detkit.commands import cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()


def requirement_name(line: str) -> str:
    return re.split(r"[<>=!;\[ ]", line, maxsplit=1)[0].lower().replace("_", "-")


def test_names_and_versions_agree():
    assert PROJECT["name"] == "detkit-vision"
    assert PROJECT["version"] == detkit.__version__
    assert PROJECT["scripts"]["detkit"] == "detkit.commands.cli:main"
    assert f"## {detkit.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_public_names_are_what_a_star_gives() -> None:
    given: dict[str, object] = {}
    exec("from detkit import *", given)
    assert given.keys() - {"__builtins__"} == set(detkit.__all__)
    assert set(detkit.__all__) == {"Detections", "LoadedDetector", "UserError", "__version__", "load"}
    assert given["Detections"] is detkit.Detections and given["load"] is detkit.load


def test_a_program_that_imports_detkit_waits_for_no_torch() -> None:
    program = "import sys, detkit; detkit.UserError, detkit.__version__; sys.exit('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_the_licence_is_the_whole_text_of_apache_2():
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_every_direct_dependency_has_a_tested_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constrained = {requirement_name(line) for line in lines if line and not line.startswith("#")}
    extras = [line for group in PROJECT["optional-dependencies"].values() for line in group]
    wanted = {requirement_name(line) for line in [*PROJECT["dependencies"], *extras]}
    assert wanted <= constrained
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+(; .+)?", line) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("target", ["quickstart", "test", "test-all", "lint", "bench", "gpu-check", "clean"])
def test_make_has_the_target(target):
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_ci_runs_lint_and_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make lint" in script.read_text()
    assert "make test" in script.read_text()


def test_every_verb_has_a_tool_and_a_config():
    for name, verb in cli.VERBS.items():
        assert f'main(["{name}"' in (ROOT / "tools" / f"{name}.py").read_text()
        assert (ROOT / "configs" / f"{verb.config}.yaml").is_file()


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", DOCUMENTS)
def test_links_between_files_lead_somewhere(page):
    for link, _, heading in re.findall(r"\]\(([^)#\s]*)(#([^)]*))?\)", (ROOT / page).read_text()):
        if "://" not in link:
            target = (ROOT / page).parent / link if link else ROOT / page
            assert target.exists(), f"{page} links to {link}"
            assert not heading or heading in headings(target), f"{page} links to {link}#{heading}"


@pytest.mark.parametrize("page", DOCUMENTS)
def test_files_named_in_the_documents_exist(page):
    named = re.findall(r"`((?:detkit|configs|tests|tools|docs|benchmarks)/[\w./-]+)`", (ROOT / page).read_text())
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing, f"{page} names {missing}"


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text()))
    assert set(DOCUMENTS) - {"README.md"} <= linked


@pytest.mark.slow
def test_a_wheel_in_an_empty_folder_has_its_configs_and_runs(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    [wheel] = (tmp_path / "dist").glob("detkit_vision-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    configs = {f"detkit/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert configs <= names
    assert "detkit/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "tools/")) for name in names)
    empty = tmp_path / "empty"
    empty.mkdir()
    found = subprocess.run(
        [sys.executable, "-m", "detkit.commands.cli", "train", "--cfg", "job", "data.root=somewhere"],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "root: somewhere" in found.stdout
    assert not any(empty.iterdir())
