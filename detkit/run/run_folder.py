"""Find or create a run folder, record config and environment, check that it can be resumed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from detkit.checkpoint.content import OF_A_TRAINING, Checkpoint
from detkit.checkpoint.store import find_checkpoint
from detkit.config.node import write_yaml
from detkit.core.distributed import World
from detkit.core.environment import describe_environment
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.model.backbone.origin import Origin
from detkit.run.budget import Duration, Progress

# What neither the weights nor the numbers of a training depend on.
INCIDENTAL = (
    "name", "resume", "run_dir", "device", "logger", "evaluation", "loader.num_workers", "decode_cache", "trust",
)  # fmt: skip
# What may differ between a run and its continuation: how long, how fast, where; not what is learned from what.
CONTINUABLE = (
    *INCIDENTAL, "data.root",
    "trainer.budget", "trainer.eval_every", "trainer.save_every", "trainer.patience", "trainer.compile",
)  # fmt: skip


def find_run(resume: str | bool | None, run_dir: Path, *, any_name: bool = True) -> tuple[Path | None, Path]:
    """(the checkpoint to go on from or None, the folder of the run).

    resume: null starts anew in `run_dir`. A path (last.pt or a run folder) goes on with that run, in its folder.
    true goes on with the run in `run_dir`, else, where `any_name` will do, with the newest one beside it; where there
    is none it starts anew.
    """
    if resume is None or resume is False:
        return None, run_dir
    if resume is True:
        beside = sorted(run_dir.parent.glob("*/"), key=lambda path: path.name, reverse=True) if any_name else []
        runs = [run_dir, *beside]
        found = next((run for run in runs if (run / "checkpoints" / "last.pt").is_file()), None)
        return (None, run_dir) if found is None else (found / "checkpoints" / "last.pt", found)
    checkpoint = find_checkpoint(resume, "last.pt").resolve()
    return checkpoint, checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def check_of_a_training(saved: Checkpoint, path: Path) -> None:
    """Raise UserError where `saved` at `path` is no checkpoint of a training."""
    if saved.training is None:
        raise UserError(
            f"resume={path} is not a checkpoint of a training (it has no {', '.join(OF_A_TRAINING)}): "
            f"to start from its weights, use finetune={path}"
        )


def check_same_training(saved: Checkpoint, settings: Settings, path: Path) -> None:
    """Raise UserError that names what differs between `settings` and those of the checkpoint `saved` at `path`."""
    different = differences(saved.config, settings, CONTINUABLE)
    if different:
        raise UserError(
            f"resume={path}: this is another training than the one it was saved by: {', '.join(different)}\n"
            "repeat the command of the first run and add resume=..., or write resume=... alone"
        )


def check_same_classes(before: Sequence[str], now: Sequence[str], path: Path) -> None:
    """Raise UserError that names the classes in which the data differ from those of the checkpoint at `path`."""
    if list(before) == list(now):
        return
    gone, new = [name for name in before if name not in now], [name for name in now if name not in before]
    told = [f"{what} {', '.join(names)}" for what, names in (("gone:", gone), ("new:", new)) if names]
    if not told:
        told = [f"the same in another order: {', '.join(now)} (was {', '.join(before)})"]
    raise UserError(
        f"resume={path}: the classes of the data are not those that it was trained for ({'; '.join(told)})\n"
        f"for other classes start anew from its weights, which keeps what it knows of the others: finetune={path}"
    )


def differences(before: Settings, now: Settings, free: Collection[str]) -> list[str]:
    """What differs between two nested settings, as "key=value (was value)", but for what is at or below `free`."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    return [
        f"{key}={new.get(key, '<absent>')} (was {old.get(key, '<absent>')})"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not any(key == name or key.startswith(f"{name}.") for name in free)
    ]


def open_folder(folder: Path, settings: Settings, world: World, origins: Sequence[Origin] = ()) -> None:
    """Make the folder and write config.yaml (resolved) and environment.json into it.

    origins: of the weights that the training began from; empty where it goes on, and then those in the file stay.
    """
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_yaml(settings, folder / "config.yaml")
    file = folder / "environment.json"
    environment = describe_environment(world.device) | {"processes": world.size}
    environment["weights"] = [asdict(origin) for origin in origins] or _weights_in(file)
    file.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


def _weights_in(file: Path) -> list[dict[str, object]]:
    """What an environment.json of before says of the weights."""
    try:
        return list(json.loads(file.read_text(encoding="utf-8")).get("weights", []))
    except (OSError, ValueError):  # none, or written by halves
        return []


def headline(folder: Path, data: str, detector: nn.Module, world: World, budget: Duration, now: Progress) -> str:
    """What is about to happen, for the reader of the log; data: a line on what is learnt from."""
    count = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)
    length = f"{budget.total / 60:g} minutes" if budget.timed else f"{budget.total:g} steps"
    return "\n".join([
        f"run folder: {folder}",
        data,
        f"{count / 1e6:.2f} M parameters, {length} on {world.size} x {world.device}"
        + (f", going on after step {now.step}" if now.step else ""),
    ])  # fmt: skip


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
