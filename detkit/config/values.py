"""Check the values of a composed config against the table `configs/values.yaml`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from omegaconf import Container, DictConfig, DictKeyType, ListConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from detkit.config.config_dir import config_dir
from detkit.config.node import child
from detkit.core.errors import UserError

OF_A_PART = re.compile(r"Interpolation key '(model|preprocess)\.")
BOUND = re.compile(r"(>=|<=|>|<)(-?[\d.]+)")
BOUNDS = {
    ">=": ("at least", lambda value, bound: value >= bound),
    "<=": ("at most", lambda value, bound: value <= bound),
    ">": ("above", lambda value, bound: value > bound),
    "<": ("below", lambda value, bound: value < bound),
}
# Whose parts the table knows the arguments of.
OWN = ("detkit.", "torch.optim.", "albumentations.")
# What people mean where a key switches something off by null and not by 0.
OFF = (0, -1)
NOWHERE = object()  # what an interpolation leads to that leads nowhere


@dataclass(frozen=True)
class Kind:
    """One thing that a value may be: a kind of the table with its bounds, a word, or a list of rules (`items`)."""

    name: str
    bounds: tuple[tuple[str, float], ...] = ()
    items: Rule | None = None

    def fits(self, value: object) -> bool:
        """Whether `value`, a plain object, is of this kind."""
        if self.items is not None:
            return isinstance(value, list) and all(self.items.fits(item) for item in value)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if self.name in ("whole", "number"):
            whole = isinstance(value, int) or self.name == "number"
            return is_number and whole and all(BOUNDS[sign][1](value, bound) for sign, bound in self.bounds)
        if self.name in ("part", "settings"):  # {} stands for settings that have no _target_ here
            return isinstance(value, Mapping) and ("_target_" in value or not value)
        plain = {"text": isinstance(value, str), "switch": isinstance(value, bool), "null": value is None, "any": True}
        return plain.get(self.name, value == self.name)

    def __str__(self) -> str:
        if self.items is not None:
            return f"a list of: {self.items}"
        names = {
            "whole": "a whole number",
            "number": "a number",
            "switch": "true or false",
            "part": "a part (_target_)",
            "settings": "settings by name",
        }
        limits = [f"{BOUNDS[sign][0]} {bound:g}" for sign, bound in self.bounds]
        return " ".join([names.get(self.name, self.name), " and ".join(limits)]).strip()


MISFIT = object()


@dataclass(frozen=True)
class Rule:
    """What a value may be: any of `kinds`."""

    kinds: tuple[Kind, ...]

    def fits(self, value: object) -> bool:
        """Whether `value` is of one of the kinds as it is."""
        return any(kind.fits(value) for kind in self.kinds)

    def read(self, value: object) -> object:
        """The value as the program takes it, MISFIT where it cannot be: a single value for a list is a list of one."""
        if self.fits(value):
            return value
        for kind in self.kinds:
            if kind.name == "text" and isinstance(value, (int, float)):
                return str(value).lower() if isinstance(value, bool) else str(value)
            if kind.items is not None and value is not None and not isinstance(value, Mapping):
                items = [kind.items.read(item) for item in (value if isinstance(value, list) else [value])]
                if MISFIT not in items:
                    return items
        return MISFIT

    @property
    def is_text(self) -> bool:
        """Whether numbers and the words for yes and no are text here, as they were typed."""
        return any(kind.name == "text" or (kind.items is not None and kind.items.is_text) for kind in self.kinds)

    def __str__(self) -> str:
        return " or ".join(str(kind) for kind in self.kinds)


def parse_rule(text: str) -> Rule:
    """Parse a rule of the table; raises ValueError for one that is none."""
    kinds = []
    for part in re.split(r"\s*\|\s*(?![^(]*\))", text):
        if part.startswith("list of "):
            kinds.append(Kind("list", items=parse_rule(part.removeprefix("list of "))))
            continue
        name, *bounds = part.split()
        found = [BOUND.fullmatch(bound) for bound in bounds]
        if not all(found) or (bounds and name not in ("whole", "number")):
            raise ValueError(f"{part!r} is no rule")
        kinds.append(Kind(name, tuple((match[1], float(match[2])) for match in found if match)))
    return Rule(tuple(kinds))


@cache
def rules() -> dict[str, Rule]:
    """Read the table: a rule by each ending of a key."""
    text = (config_dir() / "values.yaml").read_text(encoding="utf-8")
    return {key: parse_rule(rule) for key, rule in yaml.load(text, yaml.BaseLoader).items()}


def rule_of(verb: str, key: str) -> Rule | None:
    """The rule of a key of a verb, by the longest ending of the key that the table has; None where it has none.

    A row "a.b.*" is the rule of all keys below a.b, whatever they are called.
    """
    table = rules()
    parts = key.split(".")
    for end in range(1, len(parts)):
        below = ".".join([*parts[:end], "*"])
        if below in table:
            return table[below]
    for start in range(len(parts)):
        ending = ".".join(parts[start:])
        if start == 0 and f"{verb}/{ending}" in table:
            return table[f"{verb}/{ending}"]
        if ending in table:
            return table[ending]
    return None


def check_value(verb: str, key: str, value: object) -> Any:
    """Return `value` as the program takes it; raises UserError with key, value and what it may be."""
    rule = rule_of(verb, key)
    if rule is None:
        return value
    found = rule.read(value)
    if found is MISFIT:
        raise UserError(f"{key}={_shown(value)}: must be {rule}{_hint(rule, value)}")
    return found


def check_values(
    config: DictConfig, verb: str, typed: Mapping[str, object] | None = None, *, dangling: bool = False
) -> None:
    """Hold every value of a composed config against the table, and put in place what it reads otherwise.

    typed: by key, what was written where a value of another kind was made of it (02146, 1e3): text is text as typed.
    dangling: whether an interpolation may lead nowhere, as where the config is not what is run in the end.
    Raises UserError for the first value that does not fit, and for an interpolation that leads nowhere.
    """
    for key, value, literal in list(iterate_values(config, dangling=dangling)):
        rule = rule_of(verb, key)
        if rule is None:
            continue
        found = check_value(verb, key, value)
        if typed and key in typed and rule.is_text and not rule.fits(value):
            found, literal = rule.read(typed[key]), True
        if literal and (found != value or type(found) is not type(value)):
            with open_dict(config):
                OmegaConf.update(config, key, found, merge=False)


def iterate_values(config: DictConfig, *, dangling: bool = False) -> Iterator[tuple[str, object, bool]]:
    """(key, plain value, whether it stands there itself) of what can be checked: leaves, lists, and parts.

    Of a part, also of one in a list, its `_target_` stands for it, and what is below it comes by itself; {} stands for
    settings that are no part.

    What is interpolated comes after what stands there, so that a fault is found in its own place. Missing values (???)
    are left out, and so is all below a part that is not detkit's or torch's own.
    """
    found = list(_below(config, "", dangling))
    yield from (item for item in found if item[2])
    yield from (item for item in found if not item[2])


def _below(node: DictConfig, prefix: str, dangling: bool) -> Iterator[tuple[str, object, bool]]:
    for name in node:
        key = prefix + str(name)
        said = child(node, name)
        if str(name) in ("_target_", "_partial_", "_convert_", "_recursive_", "hydra") or said._value() == "???":
            continue
        literal = not said._is_interpolation()
        if not literal and "${hydra:" in str(said._value()):
            continue  # Hydra's own, which only its job has
        value = _resolved(node, name, key, dangling)
        if value is NOWHERE:
            continue
        if isinstance(value, ListConfig):
            items = [_resolved(value, index, f"{key}.{index}", dangling) for index in range(len(value))]
            targets = [_target_of(item) for item in items]
            yield key, [
                _plain(item, key) if target is None else {"_target_": target}
                for item, target in zip(items, targets, strict=True)
            ], literal  # fmt: skip
            for index, (item, target) in enumerate(zip(items, targets, strict=True)):
                if isinstance(item, DictConfig) and target is not None and target.startswith(OWN):
                    yield from _below(item, f"{key}.{index}.", dangling)
        elif isinstance(value, DictConfig):
            target = _target_of(value)
            yield key, {} if target is None else {"_target_": target}, False
            if target is None or target.startswith(OWN):
                yield from _below(value, f"{key}.", dangling)
        else:
            yield key, value, literal


def _target_of(value: object) -> str | None:
    """The `_target_` of a part; None for what is none."""
    return str(value["_target_"]) if isinstance(value, DictConfig) and "_target_" in value else None


def _resolved(node: Container, name: DictKeyType, key: str, dangling: bool) -> object:
    try:
        return node[name]
    except InterpolationResolutionError as error:
        if dangling:
            return NOWHERE
        raise UserError(f"{key}={child(node, name)._value()}: {_first_line(error)}") from error


def _plain(value: object, key: str) -> object:
    if not OmegaConf.is_config(value):
        return value
    try:
        return OmegaConf.to_container(value, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or key}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    hint = ": choose parts that go together" if OF_A_PART.search(text) else ""
    return text.rpartition("raised while resolving interpolation: ")[2].strip("'\"") + hint


def _shown(value: object) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _hint(rule: Rule, value: object) -> str:
    names = {kind.name for kind in rule.kinds}
    if "null" in names and value in OFF and not isinstance(value, bool) and names & {"whole", "number"}:
        return "; null switches it off"
    upper = [bound for kind in rule.kinds for sign, bound in kind.bounds if sign in ("<=", "<")]
    if upper == [1.0] and isinstance(value, (int, float)) and 1 < value <= 100:
        return f"; is {value / 100:g} meant?"
    if names == {"part"} or (names == {"part", "null"}):
        return ": choose an option of the group, with a slash, or give its _target_"
    return ""
