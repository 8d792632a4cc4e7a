"""What is called otherwise now than in the configs that checkpoints and exported files keep.

Who moves or renames what a stored config can name adds a row; a row stays for ever. What stands on the right is what is
there today: where that moves again, the older rows are changed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Dotted paths of `_target_`s, of a part or of all below a module: {"detkit.old.place": "detkit.new.place"}.
TARGETS: dict[str, str] = {}
# What a part takes, by its path of today: {"detkit.new.place.Part": {"old_argument": "new_argument"}}.
ARGUMENTS: dict[str, dict[str, str]] = {}
# Places in the config of a training, from its root: {"loader.old": "loader.new"}.
PLACES: dict[str, str] = {}


def renamed_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the stored config of a training, in the names of today."""
    found = renamed(config)
    for old, new in PLACES.items():
        _move(found, old.split("."), new.split("."))
    return found


def renamed(node: Any) -> Any:
    """A copy of any stored config node in which parts, at any depth, are named and given values as today."""
    if isinstance(node, Mapping):
        inner = {key: renamed(value) for key, value in node.items()}
        target = inner.get("_target_")
        if not isinstance(target, str):
            return inner
        inner["_target_"] = target_now(target)
        names = ARGUMENTS.get(inner["_target_"], {})
        return {names.get(key, key): value for key, value in inner.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(map(renamed, node))
    return node


def target_now(target: str) -> str:
    """The dotted path of today of what was once at `target`: by the row that says most of it, or itself."""
    rows = [old for old in TARGETS if f"{target}.".startswith(f"{old}.")]
    if not rows:
        return target
    old = max(rows, key=len)
    return TARGETS[old] + target.removeprefix(old)


def _move(config: dict[str, Any], old: list[str], new: list[str]) -> None:
    """Take the value at the place `old`, if there is one, to the place `new`, in place."""
    source: Any = config
    for key in old[:-1]:
        source = source.get(key) if isinstance(source, dict) else None
    if not isinstance(source, dict) or old[-1] not in source:
        return
    value, target = source.pop(old[-1]), config
    for key in new[:-1]:
        target = target.setdefault(key, {})
    target[new[-1]] = value
