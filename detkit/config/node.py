"""Read nodes of a composed config, for rooms that know nothing of Hydra."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from omegaconf import Container, DictConfig, DictKeyType, Node, OmegaConf, open_dict

from detkit.core.plain import Settings

T = TypeVar("T")
Config: TypeAlias = DictConfig
opened = open_dict  # `with opened(config):` keys may be added to it


def plain(node: object) -> Any:
    """Convert a node to dicts, lists and values, with what it interpolates in place; other values are themselves."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def unresolved(node: object) -> Any:
    """Convert a node to dicts, lists and values, in which interpolations stay text."""
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node


def as_node(settings: Settings) -> Config:
    """Make a node of a mapping."""
    return OmegaConf.create(dict(settings))


def is_node(value: object) -> bool:
    """Return whether `value` is a mapping or a list of a config."""
    return OmegaConf.is_config(value)


def select(config: Config, place: str) -> Any:
    """Return what stands at a dotted place, None where there is nothing."""
    return OmegaConf.select(config, place)


def child(node: Container, key: DictKeyType) -> Node:
    """Return what stands at a key that is there, an interpolation as it is."""
    return cast(Node, node._get_node(key))


def switched_off(node: T, key: str) -> T:
    """Copy a node in which every value called `key`, at any depth, is false or null; interpolations stay so."""
    node = deepcopy(node)
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
        for name in node:
            value = child(node, name)
            if name != key:
                node[name] = switched_off(value, key)
            elif not value._is_interpolation():
                node[name] = False if isinstance(value._value(), bool) else None
    return node


def is_missing(node: object, key: str) -> bool:
    """Return whether a key of a node waits for a value (???)."""
    return OmegaConf.is_config(node) and OmegaConf.is_missing(node, key)


def missing_keys(node: Config) -> set[str]:
    """Return the dotted places below a node that wait for a value (???)."""
    return OmegaConf.missing_keys(node)


def accept_new_keys(config: Config) -> None:
    """Let keys be added to a config from now on, in place."""
    OmegaConf.set_struct(config, False)


def without_hydra(config: Config) -> Config:
    """Copy a composed config without the node that only the `hydra` command line reads."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def read_yaml(path: Path) -> Settings:
    """Read a config file as plain values; interpolations stay text."""
    return cast(Settings, OmegaConf.to_container(OmegaConf.load(path)))


def write_yaml(settings: Settings, path: Path) -> None:
    """Write settings as a config file."""
    OmegaConf.save(as_node(settings), path)


def register_resolver(name: str, function: Callable[..., object]) -> None:
    """Make `${name:ARGUMENTS}` known to configs."""
    OmegaConf.register_new_resolver(name, function, replace=True)
