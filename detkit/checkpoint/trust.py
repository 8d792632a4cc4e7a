"""Restrict what a checkpoint may instantiate to detkit's parts and to modules that the user trusts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from detkit.core.errors import UserError

# A checkpoint comes from outside; what it names is built only from these packages, so it can run nothing else.
TRUSTED = ("detkit.model.", "detkit.image.preprocess.")

# What the config of a training may name besides: readers, augmentations, optimizers, schedules.
OF_A_TRAINING = (
    *TRUSTED, "detkit.data.", "detkit.train.optimizer.", "detkit.train.schedule.", "detkit.proposal.", "torch.optim.",
    "albumentations.",
)  # fmt: skip

# The name of a reader of detkit's own, which any checkpoint may have its data read with.
READER = re.compile(r"detkit\.data\.(?:\w+\.)+read_\w+")


def check_targets(config: object, trust: str | Sequence[str] = (), where: str = "config") -> None:
    """Raise UserError for a `_target_` outside the trusted packages, anywhere below `config`.

    trust: modules, packages or parts of the user's own, by their dotted names, which may be built too.
    """
    if isinstance(config, Mapping):
        target = config.get("_target_")
        if target is not None:
            check_target(str(target), trust, f"{where}._target_={target}")
        for key, value in config.items():
            check_targets(value, trust, f"{where}.{key}")
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            check_targets(value, trust, f"{where}[{index}]")


def check_own_targets(config: object, trust: str | Sequence[str], where: str) -> None:
    """Raise UserError for a `_target_` that is neither detkit's, nor an optimizer of torch's, nor trusted.

    For the config of a whole training, which names more than the parts of a detector.
    """
    for target in named_in(config):
        if not is_part_of(target, OF_A_TRAINING):
            check_target(target, trust, f"{where}: _target_={target}")


def check_reader(reader: object, trust: str | Sequence[str]) -> None:
    """Raise UserError unless the reader that a checkpoint names, a config node, may be built.

    It, and whatever its arguments name, is a reader of detkit (a function `read_*` of a module below `detkit.data`), or
    may be built like any part.
    """
    for target in named_in(reader):
        if READER.fullmatch(target) and is_part_of(target, ("detkit.data.",)):
            continue
        where = f"the checkpoint reads its data with {target} (or choose data=... yourself)"
        if target.startswith("detkit.data.") and not names_of(trust):
            raise UserError(f"{where}: a reader of detkit is a function read_* of a module below detkit.data")
        check_target(target, trust, where)


def check_target(target: str, trust: str | Sequence[str], where: str) -> None:
    """Raise UserError, which begins with `where` and says what to add, unless `target` may be built."""
    if is_part_of(target, TRUSTED):
        return
    names = names_of(trust)
    if any(_is_below(target, name) for name in names):
        if (reason := _why_not(target, names)) is not None:
            raise UserError(f"{where}: {reason}")
        return
    root = target.partition(".")[0]
    if root in ("", "detkit"):
        raise UserError(f"{where}: no part of {' or '.join(TRUSTED)}")
    raise UserError(
        f"{where}: of what a checkpoint names, only parts under {' and '.join(TRUSTED)} are built; if you know {root} "
        f'and trust it, add trust=[{root}] (in a program detkit.load(..., trust=["{root}"]))'
    )


def names_of(trust: str | Sequence[str] | None) -> list[str]:
    """`trust` as a list: a single word is a list of one, null an empty one."""
    return [trust] if isinstance(trust, str) else [str(name) for name in trust or ()]


def named_in(config: object) -> Iterator[str]:
    """Every `_target_` below a config: what a command itself names, it trusts."""
    if isinstance(config, Mapping):
        if isinstance(config.get("_target_"), str):
            yield config["_target_"]
        for value in config.values():
            yield from named_in(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from named_in(value)


def is_part_of(target: str, packages: Sequence[str]) -> bool:
    """Whether `target` names a class or function that one of `packages`, each with a dot behind it, defines itself.

    A prefix alone would not do: `detkit.model.detector.torch.hub.load` also begins with detkit.model.
    """
    module, _, name = target.rpartition(".")
    if not f"{target}.".startswith(tuple(packages)):
        return False
    try:
        part = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return False
    return f"{getattr(part, '__module__', '')}.{name}.".startswith(tuple(packages))


def _is_below(target: str, name: str) -> bool:
    return f"{target}.".startswith(f"{name}.")


def _why_not(target: str, names: Sequence[str]) -> str | None:
    """Why a part that lies below one of the trusted `names` is not built all the same; None where it is."""
    module, _, name = target.rpartition(".")
    try:
        found = hasattr(import_module(module), name)
    except (ImportError, ValueError) as error:
        return f"{module or target} cannot be imported ({error}): put the folder that it is in on PYTHONPATH"
    if not found:
        return f"{module} has no {name}"
    if target in names or is_part_of(target, [f"{one}." for one in names]):
        return None
    return f"{name} is not {module}'s own: trust the module that defines it"
