"""Determine which parts of a config the user has chosen, on the command line or in own files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from detkit.config.overrides import all_groups, loader_of_command, parse, task_overrides

DEFAULTS = ("train", "compare")  # what these choose is nobody's choice


@dataclass
class Chosen:
    """groups: by their path (model, model/backbone), how it was said. keys: the dotted keys that were given a value.

    places: the dotted places of the config that the overrides set. None: an experiment or a config of the user's own
    speaks for all of it, or there is no command.
    """

    groups: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    places: list[str] | None = None


def chosen_by(loader: ConfigLoaderImpl, overrides: Sequence[str], config_name: str = "train") -> Chosen:
    """What the overrides of a command choose, the experiment that they name, and `config_name` if it is a user's own.

    Raises UserError for an override that cannot be read.
    """
    chosen, speaks_for_all = Chosen(), config_name not in DEFAULTS
    if speaks_for_all:
        _visit(loader, config_name, f"--config-name {config_name}", chosen)
    groups = all_groups(loader)
    given = [override for override in parse(list(overrides)) if not override.key_or_group.startswith("hydra")]
    for override in given:
        if override.key_or_group == "experiment" and isinstance(override.value(), str):
            _visit(loader, f"experiment/{override.value()}", str(override.input_line), chosen)
    places = []
    for override in given:
        key, place = override.key_or_group, override.package or override.key_or_group.replace("/", ".")
        is_group = key in groups
        (chosen.groups if is_group else chosen.keys)[key] = str(override.input_line)
        speaks_for_all |= is_group and (key == "experiment" or place == "_global_")
        places.append(place)
    chosen.places = None if speaks_for_all else places
    return chosen


def chosen_by_command() -> Chosen:
    """What the command chooses that Hydra runs now; nothing where none made the config."""
    if not HydraConfig.initialized():
        return Chosen()
    return chosen_by(loader_of_command(), task_overrides(), str(HydraConfig.get().job.config_name))


def for_finetuning(loader: ConfigLoaderImpl, arguments: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The arguments of a command, in which values of a model that comes from a checkpoint may be set.

    Such a value, `model.dense_head.norm=group`, need not be one of the default model, where Hydra would look for it:
    what there is in the checkpoint is seen as it is read. overrides: those among the arguments.
    """
    chosen = chosen_by(loader, overrides)
    values = [override.value() for override in parse(list(overrides)) if override.key_or_group == "finetune"]
    starts = values[-1] is not None if values else "finetune" in chosen.keys
    if not starts or "model" in chosen.groups:
        return list(arguments)
    return [f"++{one}" if re.match(r"(model|preprocess|proposal)\.[\w.]+=", one) else one for one in arguments]


def _visit(loader: ConfigLoaderImpl, name: str, said: str, chosen: Chosen) -> None:
    """Add what the config file `name` chooses, itself or by those it builds upon."""
    found = loader.repository.load_config(name) if loader.repository.config_exists(name) else None
    if found is None:
        return  # Hydra says so
    folder = name.rpartition("/")[0]
    for default in found.defaults_list or ():
        if isinstance(default, GroupDefault):
            group, value = str(default.group), default.value
            path = group[1:] if group.startswith("/") else f"{folder}/{group}" if folder else group
            if path == "experiment" and isinstance(value, str):
                _visit(loader, f"experiment/{value}", said, chosen)
            else:
                chosen.groups[path] = f"{said} (with {path}={value})"
        elif isinstance(default, ConfigDefault) and default.path not in ("_self_", *DEFAULTS):
            path = str(default.path)
            _visit(loader, path[1:] if path.startswith("/") else f"{folder}/{path}" if folder else path, said, chosen)
    if (found.header or {}).get("package") == "_global_" or not folder:
        content = OmegaConf.to_container(found.config, resolve=False)
        chosen.keys |= {key: f"{said} (with {key})" for key in _leaves(content)}


def _leaves(node: object, prefix: str = "") -> Iterator[str]:
    for key, value in node.items() if isinstance(node, Mapping) else ():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path
