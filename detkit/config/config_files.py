"""Check the user's own config files against the configs that they change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.default_element import ResultDefault
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from detkit.config.node import child
from detkit.config.overrides import all_groups, explain_key, options_of
from detkit.core.errors import UserError
from detkit.core.suggest import nearest

PROVIDER = "command-line"  # what Hydra calls the source that --config-dir adds


def check_config_files(loader: ConfigLoaderImpl, config_name: str, overrides: list[str], own: Path | None) -> None:
    """Raise UserError for a key in one of the chosen config files below `own` that the configs do not have.

    A file of experiments that lacks the line that puts its keys where they belong is refused too, wherever it lies.
    What stands below a `_target_` of the file's own are arguments, which are checked when the part is built.
    """
    _, repo = loader._parse_overrides_and_create_caching_repo(config_name, overrides)
    defaults = loader.compute_defaults_list(config_name, overrides, RunMode.RUN).defaults
    for default in defaults:
        path = default.config_path
        if path is None or path.startswith("hydra/"):
            continue
        loaded = repo.load_config(path)
        if loaded is None or (loaded.provider != PROVIDER and not path.startswith("experiment/")):
            continue
        name = f"{Path(own or '') / path}.yaml" if loaded.provider == PROVIDER else f"{path}.yaml"
        if path.startswith("experiment/") and default.package not in ("", "_global_"):
            raise UserError(f"{name} sets nothing that is read: begin it with the line\n# @package _global_")
        if loaded.provider == PROVIDER:
            others = [other for other in defaults if other is not default]
            _check_keys(loader, repo, others, default, name)


def typed_text(loader: ConfigLoaderImpl, config_name: str, overrides: list[str]) -> dict[str, object]:
    """By key, what the user's own config files say to the letter: YAML reads 02146 as octal and `no` as false."""
    _, repo = loader._parse_overrides_and_create_caching_repo(config_name, overrides)
    typed: dict[str, object] = {}
    for default in loader.compute_defaults_list(config_name, overrides, RunMode.RUN).defaults:
        loaded = None if default.config_path is None else repo.load_config(default.config_path)
        if loaded is None or loaded.provider != PROVIDER:
            continue
        file = Path(loaded.path.removeprefix("file://")) / f"{default.config_path}.yaml"
        package = "" if default.package in (None, "_global_") else f"{default.package}."
        typed |= {f"{package}{key}": value for key, value in _leaves(_letters(file))}
    return typed


def explain_yaml(error: yaml.YAMLError) -> UserError:
    """The one line about a config file that is no YAML: where, and what is probably wrong."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{mark.name} line {mark.line + 1}" if mark is not None else "a config file"
    reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
    hint = "; indent with spaces, YAML takes no tabs" if "\\t" in reason or "tab" in reason else ""
    return UserError(f"{where.removeprefix('file ').strip()} is no YAML: {reason}{hint}")


def _check_keys(
    loader: ConfigLoaderImpl,
    repo: IConfigRepository,
    others: list[ResultDefault],
    default: ResultDefault,
    name: str,
) -> None:
    groups = all_groups(loader)
    config = loader._compose_config_from_defaults_list(defaults=others, repo=repo)
    mine = cast(DictConfig, loader._load_single_config(default, repo).config)
    group = os.path.dirname(default.config_path or "")
    in_group = default.package not in (None, "", "_global_")
    for key in _own_keys(mine):
        if key == "hydra" or key.startswith("hydra.") or _is_argument(config, key):
            continue
        problem = explain_key(config, key, groups)
        if problem is None:
            continue
        if in_group:
            last = key.removeprefix(f"{default.package}.").partition(".")[0]
            known = _keys_of_options(loader, repo, group, str(default.package))
            if last in known or not known:
                continue
            guess = nearest(last, known)
            problem = f"no key {key}" + (f"; did you mean {default.package}.{guess}?" if guess else "")
            problem += f"\nkeys of {default.package}: {', '.join(sorted(known))}"
        raise UserError(f"{name}: {problem.partition('(a new key')[0].strip()}")


def _is_argument(config: DictConfig, key: str) -> bool:
    """Whether a key is one of a part, or below one: what it takes is asked when it is built."""
    parts = key.split(".")
    nodes = [OmegaConf.select(config, ".".join(parts[:depth])) for depth in range(1, len(parts))]
    return any(OmegaConf.is_dict(node) and "_target_" in node for node in nodes)


def _keys_of_options(loader: ConfigLoaderImpl, repo: IConfigRepository, group: str, package: str) -> set[str]:
    """The keys that the other options of a group have; none where those are parts, whose keys are arguments."""
    keys: set[str] = set()
    for option in options_of(loader, group):
        loaded = repo.load_config(f"{group}/{option}")
        if loaded is None or loaded.provider == PROVIDER:
            continue
        if "_target_" in loaded.config:
            return set()
        keys |= {str(key) for key in loaded.config}
    return keys


def _own_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a file's values; of a part of its own, only the key of the part."""
    for name in node:
        value = child(node, name)
        key = prefix + str(name)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation() and len(value):
            if "_target_" not in value:
                yield from _own_keys(value, f"{key}.")
        else:
            yield key


def _letters(file: Path) -> object:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)
    except (OSError, yaml.YAMLError):
        return {}


def _leaves(node: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, f"{prefix}{name}.")
    elif prefix:
        yield prefix[:-1], node
