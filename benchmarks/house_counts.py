"""What the house is measured by: types that say nothing, prints below the commands, long functions, full folders.

python benchmarks/house_counts.py [FOLDER] [--list]

Prints one line for each count over the Python files of FOLDER, detkit by default; --list names every place. Code is
read, not imported: types by `ast`, comments by `tokenize`.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 60  # lines of a function that is not too long
COMMANDS = ("cli.py", "__main__.py", "commands/")  # below the package: their prints are what a command says
IGNORE = re.compile(r"#\s*type:\s*ignore")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Place(NamedTuple):
    """Where something was found: the file, relative to the folder, the line, and what is there."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"  {self.file}:{self.line} {self.what}".rstrip()


def main() -> None:
    """Print what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "detkit")
    parser.add_argument("--list", action="store_true", help="every place of a count below it")
    options = parser.parse_args()
    sources = {
        path.relative_to(options.folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(options.folder.rglob("*.py"))
    }
    for name, places in count_all(sources).items():
        print(f"{name}: {len(places)}")
        if options.list:
            print(*places, sep="\n", end="\n" if places else "")
    longest = max(long_functions(sources, 0), key=lambda place: int(place.what.split()[1]))
    print(f"longest function: {longest.what} ({longest.file}:{longest.line})")
    folder, most = Counter(str(Path(name).parent) for name in sources).most_common(1)[0]
    print(f"files in the largest flat folder: {most} ({folder})")


def count_all(sources: dict[str, str]) -> dict[str, list[Place]]:
    """The places of each count, by its name; sources: the text of each file by its name."""
    return {
        "Any in annotations": [place for file, tree in _trees(sources) for place in _any(file, tree)],
        "functions that return dict[str, Any]": [
            Place(file, node.lineno, node.name)
            for file, tree in _trees(sources)
            for node in ast.walk(tree)
            if isinstance(node, Function) and node.returns is not None and "dict[str, Any]" in ast.unparse(node.returns)
        ],
        "type: ignore comments": [place for file, text in sources.items() for place in _ignores(file, text)],
        "print calls outside the commands": [
            Place(file, node.lineno, "print")
            for file, tree in _trees(sources)
            if not file.startswith(COMMANDS)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        ],
        f"functions over {LONGEST} lines": long_functions(sources, LONGEST),
    }


def long_functions(sources: dict[str, str], longest: int) -> list[Place]:
    """Functions of more than `longest` lines, from `def` to the last statement, those inside them included."""
    return [
        Place(file, node.lineno, f"{node.name} {lines}")
        for file, tree in _trees(sources)
        for node in ast.walk(tree)
        if isinstance(node, Function) and (lines := (node.end_lineno or 0) - node.lineno + 1) > longest
    ]


def _trees(sources: dict[str, str]) -> Iterator[tuple[str, ast.Module]]:
    for file, text in sources.items():
        yield file, ast.parse(text, file)


def _any(file: str, tree: ast.Module) -> Iterator[Place]:
    """Every `Any` in the annotation of an argument, a return or a variable; one in a string counts too."""
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            for part in ast.walk(annotation) if isinstance(annotation, ast.AST) else ():
                named = isinstance(part, ast.Name) and part.id == "Any"
                quoted = isinstance(part, ast.Constant) and re.search(r"\bAny\b", str(part.value))
                if named or quoted:
                    yield Place(file, part.lineno, ast.unparse(annotation))


def _ignores(file: str, text: str) -> Iterator[Place]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and IGNORE.search(token.string):
            yield Place(file, token.start[0], token.string)


if __name__ == "__main__":
    main()
