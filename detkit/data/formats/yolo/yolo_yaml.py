"""Parse the yaml file of a data set in YOLO form: class names, splits, keypoints."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from detkit.core.errors import UserError
from detkit.core.text_file import read_lines, read_text
from detkit.data.formats.split_names import SAME

_NOTHING = ("", "null", "~", "None")


@dataclass
class YoloDescription:
    """names: class number -> name. splits: what each key of a split lists. keypoints: numbers of them in a row."""

    names: dict[int, str] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=dict)
    path: str = ""
    keypoints: int = 0
    count: int | None = None


def read_description(root: Path, file: Path | None = None) -> YoloDescription:
    """The content of `file`, or of the first yaml file of `root` that has `names` or `train`.

    Every word of it is text as it is written: no, 02146, 16:9 and 1e3 are names, too. Names that are in none are
    those of classes.txt or obj.names. Raises UserError where a file cannot be read, or its names are no list.
    """
    described = YoloDescription()
    candidates = [root / "data.yaml", root / "dataset.yaml", *sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml"))]
    for path in dict.fromkeys(candidates if file is None else [file]):
        content = _load(path) if path.is_file() else {}
        if "names" in content or "train" in content or "val" in content:
            described = _describe(content, path)
            break
    if not described.names:
        listed = next((root / name for name in ("classes.txt", "obj.names") if (root / name).is_file()), None)
        if listed is not None:
            described.names = _unique(dict(enumerate(read_lines(listed))), listed)
            _check_count(described.names, described.count, listed)
    return described


def _load(path: Path) -> dict[str, object]:
    text = read_text(path)
    try:
        content = yaml.load(text, Loader=yaml.BaseLoader)  # all scalars are text
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read {path}: {reason[:300] or 'it is nested too deeply'}") from error
    return content if isinstance(content, dict) else {}


def _describe(content: dict[str, object], path: Path) -> YoloDescription:
    count = _count(content.get("nc"), path)
    names = _unique(_names(content.get("names"), path), path)
    if names:
        _check_count(names, count, path)
    keys = {name for same in SAME for name in same}
    splits = {str(key): _entries(value, key, path) for key, value in content.items() if key in keys}
    where = content.get("path")
    return YoloDescription(
        names=names,
        splits={key: entries for key, entries in splits.items() if entries},
        path=where if isinstance(where, str) and where not in _NOTHING else "",
        keypoints=_keypoints(content.get("kpt_shape"), path),
        count=count,
    )


def _names(value: object, path: Path) -> dict[int, str]:
    form = "write names: [cat, dog]"
    if value is None or (isinstance(value, str) and value in _NOTHING):
        return {}
    if isinstance(value, str):
        if (path.parent / value).is_file():
            return dict(enumerate(read_lines(path.parent / value)))
        if re.match(r"\d+\s*:", value):
            raise UserError(f"{path}: names is the text {value!r}, as a colon has no blank after it: {form}")
        if "," in value:
            words = ", ".join(word.strip() for word in value.split(",") if word.strip())
            raise UserError(f"{path}: names is the text {value!r}, not a list: write names: [{words}]")
        return {0: value}
    if isinstance(value, list) and value and all(isinstance(item, dict) and len(item) == 1 for item in value):
        value = {key: name for item in value for key, name in item.items()}  # - 0: cat
    if isinstance(value, list):
        value = {str(number): name for number, name in enumerate(value)}
    if not isinstance(value, dict) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise UserError(f"{path}: names holds lists in lists: {form}")
    numbered = all(_is_number(key) for key in value)
    if not numbered and not all(_is_number(name) for name in value.values()):
        raise UserError(f"{path}: names has keys that are no numbers ({', '.join(value)[:80]}): {form}")
    pairs = value.items() if numbered else [(number, name) for name, number in value.items()]
    names: dict[int, str] = {}
    for key, name in pairs:
        if int(key) in names or not name.strip():
            what = "has no name" if not name.strip() else f"is both {names[int(key)]!r} and {name!r}"
            raise UserError(f"{path}: class {int(key)} of names {what}: {form}")
        names[int(key)] = name.strip()
    return dict(sorted(names.items()))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}", text.strip()) is not None


def _unique(names: dict[int, str], path: Path) -> dict[int, str]:
    seen: dict[str, int] = {}
    for number, name in names.items():
        if name in seen:
            raise UserError(f"{path}: classes {seen[name]} and {number} are both called {name!r}: rename one of them")
        seen[name] = number
    return names


def _count(value: object, path: Path) -> int | None:
    if value is None or value in _NOTHING:
        return None
    if not isinstance(value, str) or not _is_number(value):
        raise UserError(f"{path}: nc is {str(value)[:80]!r}, must be the number of classes")
    return int(value)


def _check_count(names: dict[int, str], count: int | None, path: Path) -> None:
    if count is not None and count not in (len(names), max(names, default=-1) + 1):
        known = ", ".join(list(names.values())[:10])
        raise UserError(f"{path}: nc is {count}, but names has {len(names)} ({known}): correct one of them")


def _entries(value: object, key: object, path: Path) -> list[str]:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) and "\0" not in entry for entry in entries):
        raise UserError(f"{path}: {key} must be a folder, a file of image paths, or a list of these")
    return [entry.strip() for entry in entries if entry.strip() not in _NOTHING]


def _keypoints(value: object, path: Path) -> int:
    if value is None or value in _NOTHING:
        return 0
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) and _is_number(v) for v in value):
        number, numbers_each = map(int, value)
        if number > 0 and numbers_each in (2, 3):
            return number * numbers_each
    raise UserError(f"{path}: kpt_shape is {str(value)[:80]}, must be [number of keypoints, 2 or 3]")
