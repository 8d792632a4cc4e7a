"""Resume a run with the settings that it was begun with, but for those that may differ."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.trust import check_own_targets, named_in
from detkit.config.node import Config, as_node, plain
from detkit.core.errors import UserError
from detkit.run.run_folder import CONTINUABLE, check_of_a_training, differences

# Sections of plain settings, which a later version may have more of.
SECTIONS = ("trainer", "loader", "logger", "evaluation", "proposal_cache")


def continued(config: Config, saved: Checkpoint, path: Path, said: list[str] | None) -> Config:
    """The config of a training that goes on from checkpoint `saved` at `path`: the run's, with what may differ as said.

    config: as composed from the command. said: the places that the command sets, None for all (`Chosen.places` of
    `detkit.config.chosen`). Raises UserError naming what differs and must not, and where `saved` is no checkpoint of a
    training or names parts that are neither detkit's nor trusted.
    """
    check_of_a_training(saved, path)
    if said is None:
        return config.copy()
    before = saved.config
    now = plain(config)
    check_own_targets(before, [*saved.trust, *named_in(now)], f"resume={path}")
    strange = [
        text
        for text in differences(before, now, CONTINUABLE)
        if any(_is_at(text.partition("=")[0], place) for place in said)
    ]
    if strange:
        raise UserError(
            f"resume={path}: this is another training than the one it was saved by: {', '.join(strange)}\n"
            f"resume=... alone goes on as the run was; what may differ: {', '.join(CONTINUABLE)}"
        )
    settings = deepcopy(dict(before))
    for key, value in now.items():
        if key not in settings:
            settings[key] = value
        elif key in SECTIONS:
            settings[key] = {**value, **settings[key]}
    for place in said:
        if any(_is_at(place, name) for name in CONTINUABLE):
            _copy(now, settings, place.split("."))
    settings["resume"] = now["resume"]
    return as_node(settings)


def position_of(saved: Checkpoint, processes: int) -> tuple[int, int]:
    """(epoch, batches of it that every process has had) where `processes` go on with a training.

    Where they are others than before, no image of the epoch is left out; a few may come twice.
    """
    position = saved.position
    return position.epoch, position.batch * saved.processes // processes


def describe_other_processes(saved: Checkpoint, processes: int, config: Config) -> str:
    """What is no longer as before, where a training goes on with another number of processes."""
    before, accumulate = saved.processes, config.trainer.accumulate
    return (
        f"saved by {before} processes, goes on with {processes}: random numbers are drawn anew, and a step takes "
        f"{processes * accumulate} batches of {config.loader.batch_size} in place of {before * accumulate}"
    )


def _is_at(key: str, place: str) -> bool:
    return key == place or key.startswith(f"{place}.")


def _copy(source: Any, target: Any, path: list[str]) -> None:
    for key in path[:-1]:
        source, target = source[key], target[key]
    target[path[-1]] = source[path[-1]]
