"""Explain a command line that does not fit the configs, with the nearest valid word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeAlias

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from detkit.config.aliases import OPTIONS, said_now
from detkit.config.config_dir import config_dir
from detkit.config.node import child, unresolved
from detkit.core.errors import UserError
from detkit.core.suggest import did_you_mean, nearest

ConfigLoader: TypeAlias = ConfigLoaderImpl


def parse(overrides: list[str]) -> list[Override]:
    """The overrides of a command line; raises UserError for one that cannot be read."""
    return list(_parse(tuple(overrides)))


@lru_cache(maxsize=64)  # one command is looked at several times, and Hydra's parser takes its time
def _parse(overrides: tuple[str, ...]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        reason = str(error).partition("\nSee https")[0]
        key, _, value = error.override.partition("=")
        quoted = f"""; if the value is text with special characters, write '{key}="{value}"'""" if value else ""
        raise UserError(
            f"cannot read {error.override}: expected key=value or group=option{quoted}\n{reason}"
        ) from error


def first_of_sweep(overrides: list[str]) -> list[str]:
    """The overrides of one job of a multirun: of every sweep over several values the first."""
    single = []
    for override in parse(overrides):
        if override.is_discrete_sweep():
            single.append(f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}")
        elif not override.is_sweep_override() and override.input_line is not None:
            single.append(override.input_line)
    return single


def check_replaced_groups(loader: ConfigLoader, overrides: list[str]) -> None:
    """Raise UserError for `model.backbone=resnet50`, which would silently put a word where a part belongs."""
    for override in parse(overrides):
        group = override.key_or_group.replace(".", "/")
        if "." in override.key_or_group and isinstance(override.value(), str) and group in all_groups(loader):
            value, options = str(override.value()), options_of(loader, group)
            meant = value if value in options else nearest(value, options) or value
            raise UserError(
                f"{override.input_line}: {override.key_or_group} is chosen as a group, with a slash: "
                f"use {group}={meant}\noptions of {group}: {', '.join(options)}"
            )


def check_options(loader: ConfigLoader, overrides: list[str]) -> None:
    """Raise UserError for `data=true` or `model=[0]`: of a group one chooses an option by name, or several.

    Also for keys, groups and options of before, with what they are called now.
    """
    groups = all_groups(loader)
    for override in parse(overrides):
        if answer := _called_otherwise(override):
            raise UserError(answer)
        if override.key_or_group not in groups or override.is_delete() or override.is_sweep_override():
            continue
        value = override.value()
        if value is None or all(isinstance(item, str) for item in (value if isinstance(value, list) else [value])):
            continue
        options = options_of(loader, override.key_or_group)
        raise UserError(
            f"{override.input_line}: {override.key_or_group} takes the name of an option\n"
            f"options of {override.key_or_group}: {', '.join(options)}"
        )


def _called_otherwise(override: Override) -> str | None:
    """The answer to what was called so before; None where it still is."""
    key = override.get_key_element().lstrip("+~")
    if now := said_now(key):
        return f"{key} is now {now}"
    said = [f"{override.key_or_group}={option}" for option in _choices(override)]
    return next((f"{old} is now {OPTIONS[old]}" for old in said if old in OPTIONS), None)


def missing(config: DictConfig) -> UserError:
    """The error that names every key of `config` still `???`."""
    keys = sorted(OmegaConf.missing_keys(config))
    needed = " ".join(f"{key}=..." for key in keys)
    return UserError(f"no value for {', '.join(keys)}\nadd to the command, or set in your experiment: {needed}")


def explain(loader: ConfigLoader, config_name: str, overrides: list[str]) -> str | None:
    """The first override that does not fit config `config_name`, with what was probably meant; None if all fit."""
    groups = all_groups(loader)
    fitting: list[str] = []
    values: list[Override] = []
    for override in parse(overrides):
        key = override.key_or_group
        if override.is_hydra_override() or key.startswith("hydra"):
            continue
        if answer := _called_otherwise(override):
            return answer
        if key in groups:
            for option in _choices(override):
                known = _options_beside(loader, groups, key, option)
                if option not in known:
                    return f"no {key}={option}{_listed(option, known, f'options of {key}')}"
                if not override.is_sweep_override() or not fitting:
                    fitting.append(f"{override.get_key_element()}={option}")
        elif "/" in key:
            return f"no config group {key}{_listed(key, groups, 'groups')}"
        else:
            values.append(override)
    try:
        config = loader.load_configuration(config_name, fitting, RunMode.RUN)
    except Exception as error:  # the groups do not fit each other
        return _unused_group(loader, config_name, fitting) or _clash(loader, config_name, fitting, error)
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    for override in values:
        if not (override.is_add() or override.is_force_add()):
            problem = explain_key(config, override.key_or_group, groups)
            if problem:
                return problem
    return None


def config_loader(folder: str, extra_dir: str | None = None) -> ConfigLoader:
    """A loader over the configs in `folder` and, before them, the user's own in `extra_dir`."""
    setup_globals()
    path = create_config_search_path(folder)
    if extra_dir is not None:
        path.prepend(provider="command-line", path=f"file://{extra_dir}", anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(config_search_path=path)


def load_config(loader: ConfigLoader, config_name: str, overrides: list[str]) -> DictConfig:
    """The config `config_name` under `overrides`, with Hydra's own node; raises UserError where they do not fit."""
    try:
        return loader.load_configuration(config_name, overrides, RunMode.RUN)
    except HydraException as error:
        raise UserError(explain(loader, config_name, overrides) or str(error)) from error


def loader_of_command() -> ConfigLoader:
    """A loader over the configs that this command was composed from, the user's own --config-dir included."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else ()
    own = next((str(source.path) for source in sources if source.provider == "command-line"), None)
    return config_loader(str(config_dir()), own)


def task_overrides() -> list[str]:
    """The overrides of the job that Hydra runs now, as they were typed: `name=${seed}` is not looked up."""
    return unresolved(HydraConfig.get().overrides.task)


def typed_overrides(overrides: list[str]) -> dict[str, object]:
    """By key, the values of a command line to the letter, where Hydra read a number or a truth value in them.

    Of a list the items. Of 02146 or 1e3 for a name nothing else is left once it is a number.
    """
    typed: dict[str, object] = {}
    for override in parse(overrides):
        value, text = override.value(), (override.input_line or "").partition("=")[2]
        if override.is_delete() or override.is_sweep_override() or isinstance(value, (str, dict)) or value is None:
            continue
        if isinstance(value, list):
            items = yaml.load(text, yaml.BaseLoader)
            if len(items) == len(value) and all(isinstance(item, (str, int, float)) for item in value):
                typed[override.key_or_group] = [
                    item if isinstance(item, str) else letters for item, letters in zip(value, items, strict=True)
                ]
        else:
            typed[override.key_or_group] = text.strip()
    return typed


def check_deleted(loader: ConfigLoader, config_name: str, overrides: list[str]) -> None:
    """Raise UserError for ~key or ~group where the verb needs what would be taken away.

    What is below a `_target_` may go: the constructor has a default for it, or says that it has none.
    """
    deleted = [override for override in parse(overrides) if override.is_delete()]
    if not deleted:
        return
    left = [str(override.input_line) for override in parse(overrides) if not override.is_delete()]
    base = loader.load_configuration(config_name, first_of_sweep(left), RunMode.RUN)
    for override in deleted:
        _check_needed(loader, base, override)


def _check_needed(loader: ConfigLoader, base: DictConfig, override: Override) -> None:
    """Raise UserError where an override takes a part or a key away that the verb needs."""
    key = override.key_or_group.replace("/", ".")
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(base, parent) if parent else base
    if not OmegaConf.is_dict(node) or name not in node or "_target_" in node:
        return
    instead = f"use {key}=null"
    if OmegaConf.is_dict(node._get_node(name)):
        has_none = "none" in options_of(loader, override.key_or_group)
        instead = f"use {override.key_or_group}=none" if has_none else "choose another option of it"
    raise UserError(f"{override.input_line}: {key} is needed, it cannot be taken away; {instead}")


def without_null_groups(
    loader: ConfigLoader, config_name: str, overrides: list[str], arguments: list[str]
) -> tuple[list[str], list[str]]:
    """Overrides and arguments in which group=null is ~group, or gone where nothing was chosen: Hydra knows no null.

    Raises UserError where the verb needs an option of the group.
    """
    groups = all_groups(loader)
    nulls = {
        str(override.input_line): override
        for override in parse(overrides)
        if override.key_or_group in groups and not override.is_delete() and override.value() is None
    }
    if not nulls:
        return overrides, arguments
    others = [override for override in overrides if override not in nulls]
    base = loader.load_configuration(config_name, first_of_sweep(others), RunMode.RUN)
    chosen = {}
    for line, override in nulls.items():
        if base.hydra.runtime.choices.get(override.get_key_element()) is not None:
            _check_needed(loader, base, override)
            chosen[line] = f"~{override.get_key_element()}"

    def rewritten(words: list[str]) -> list[str]:
        return [chosen.get(word, word) for word in words if word not in nulls or word in chosen]

    return rewritten(overrides), rewritten(arguments)


def all_groups(loader: ConfigLoader, parent: str = "") -> list[str]:
    """Every config group by its path, except Hydra's own; those below `parent`."""
    return list(_all_groups(loader, parent))


@lru_cache(maxsize=8)  # it walks all folders of configs, for a seventh of a second, and one command asks several times
def _all_groups(loader: ConfigLoader, parent: str) -> tuple[str, ...]:
    return tuple(_groups_below(loader, parent))


def _groups_below(loader: ConfigLoader, parent: str) -> Iterator[str]:
    for name in loader.list_groups(parent):
        group = f"{parent}/{name}" if parent else name
        if group != "hydra":
            yield group
            yield from _groups_below(loader, group)


def options_of(loader: ConfigLoader, group: str) -> list[str]:
    """The valid values of a config group."""
    return list(loader.get_group_options(group))


def explain_key(config: DictConfig, key: str, groups: list[str]) -> str | None:
    """Why the dotted `key` is not in `config`, or None if it is."""
    if now := said_now(key):
        return f"{key} is now {now}"
    node: object = config
    parts = key.split(".")
    for depth, part in enumerate(parts):
        parent = ".".join(parts[:depth])
        if isinstance(node, ListConfig):  # Hydra's own message on a bad list index is clear
            return None
        if not isinstance(node, DictConfig):
            return f"no key {key}: {parent} is a single value"
        keys = [str(name) for name in node if not str(name).startswith("_") or name == part]
        if part not in keys:
            below = f"{parent}." if parent else ""
            rest = "".join(f".{name}" for name in parts[depth + 1 :])
            guess = nearest(part, keys)
            if guess is None or OmegaConf.select(config, f"{below}{guess}{rest}", throw_on_missing=False) is None:
                guess = _elsewhere(config, key) or (guess and f"{below}{guess}")
            else:
                guess = f"{below}{guess}{rest}"
            if not parent:
                keys = sorted({*keys, *(group for group in groups if "/" not in group)})
                guess = guess or nearest(part, keys)
            hint = f"; did you mean {guess}?" if guess else ""
            where = f"keys of {parent}" if parent else "keys"
            return f"no key {key}{hint}\n{where}: {', '.join(keys)}\n(a new key is added with +{key}=...)"
        node = child(node, part)
    return None


def _elsewhere(config: DictConfig, key: str) -> str | None:
    """A key of another place in `config` that has the same last name, else one spelt alike."""
    paths = list(_dotted(config))
    leaf = key.rpartition(".")[2]
    same = [path for path in paths if path.rpartition(".")[2] == leaf]
    return nearest(key, same) or next(iter(same), None) or nearest(key, paths)


def _dotted(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig):
        for name in node:
            key = prefix + str(name)
            yield key
            yield from _dotted(child(node, name), f"{key}.")


def _choices(override: Override) -> list[str]:
    """The options that a group override names: one, several in a sweep, none for null or a deletion."""
    if override.is_delete():
        return []
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_iterator()] if override.is_discrete_sweep() else []
    value = override.value()
    values = value if isinstance(value, list) else [value]
    return [str(item) for item in values if item is not None]


def _options_beside(loader: ConfigLoader, groups: list[str], key: str, option: str) -> list[str]:
    """The options of group `key`; of a folder in it where `option`, like modern/yolox, names one.

    Where it names a folder that is not there, or none for what is in one, the options of those folders are added.
    """
    folder, _, word = option.rpartition("/")
    if f"{key}/{folder}" in groups:
        return [f"{folder}/{name}" for name in options_of(loader, f"{key}/{folder}")]
    inner = {
        group.removeprefix(f"{key}/"): options_of(loader, group) for group in groups if group.startswith(f"{key}/")
    }
    deeper = [f"{group}/{name}" for group, names in inner.items() if folder or word in names for name in names]
    return options_of(loader, key) + deeper


def _unused_group(loader: ConfigLoader, config_name: str, fitting: list[str]) -> str | None:
    """The group override that `config_name` has no place for."""
    choices = loader.load_configuration(config_name, [], RunMode.MULTIRUN).hydra.runtime.choices
    used = sorted(str(group) for group in choices if not str(group).startswith("hydra/"))
    for override in fitting:
        group = override.partition("=")[0]
        if not group.startswith(("+", "~")) and group not in used:
            return f"{config_name} has no place for {override}{_listed(group, used, f'groups of {config_name}')}"
    return None


def _clash(loader: ConfigLoader, config_name: str, fitting: list[str], error: Exception) -> str | None:
    """Which of the group overrides does not go with the others, and why, after Hydra's `error`."""
    reason = str(error).partition("\n")[0].partition(": ")[2] or str(error)
    place = re.search("Could not override '(.+?)'", str(error))
    if place:
        reason = f"it chooses {place[1]}, for which there is no place"
    if "Cannot merge" in f"{error}{error.__cause__}":
        reason = "it sets one value where the other has several settings, or the other way round"
    for override in sorted(fitting, key=lambda item: not item.startswith("experiment=")):
        others = [other for other in fitting if other != override]
        try:
            loader.load_configuration(config_name, others, RunMode.RUN)
        except Exception:
            continue
        return f"{override} does not go with {' '.join(others) or 'the rest'}: {reason}"
    return None


def _listed(word: str, words: list[str], title: str) -> str:
    inside = next((other for other in words if other.endswith(f"/{word}")), None)
    hint = f"; did you mean {inside}?" if inside else did_you_mean(word, words)
    return f"{hint}\n{title}: {', '.join(words)}"
