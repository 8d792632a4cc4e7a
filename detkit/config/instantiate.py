"""Instantiate `_target_` nodes, after checking that the target takes what the node says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from detkit.core.errors import UserError

T = TypeVar("T")

SIGNS = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")  # what Hydra reads of a node itself


def build(node: object, key: str, **values: object) -> Any:
    """What the config node at `key` describes by `_target_` and values, or None for None; `values` are added to it.

    Raises UserError for a target that cannot be loaded, for keys that it does not take, for those that it needs and
    has not got, and for a node that has settings but no target; a UserError of a constructor comes out as itself. An
    exception from inside a constructor is a bug, and comes as one.
    """
    if node is None:
        return None
    check_part(OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node, key, given=values)
    try:
        return instantiate(node, **values)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        raise cause or error from None


def check_part(node: object, key: str, given: Iterable[str] = ()) -> None:
    """Raise UserError where `build` of this plain node, with values of the names `given`, would."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(_no_part(node, key))
    check(node, key, given=given)


def check(node: object, key: str, given: Iterable[str] = ()) -> None:
    """Raise UserError where a node at or below `key` names a target that does not take what the node says.

    given: of the node itself, what is added to it.
    """
    if isinstance(node, Mapping):
        for name, value in node.items():
            check(value, f"{key}.{name}")
        if isinstance(node.get("_target_"), str):
            waits = bool(node.get("_partial_")) or "_partial_" in given or "_args_" in node
            names = [str(name) for name in node if name not in SIGNS]
            _check_names(load(node["_target_"], key), key, [*names, *set(given) - set(SIGNS)], waits=waits)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, value in enumerate(node):
            check(value, f"{key}[{index}]")


def complete(part: Callable[..., T], key: str, **given: object) -> T:
    """Call the part at `key`, a callable that waits for `given`; raises UserError where it does not take that."""
    _check_given(part, key, given)
    try:
        return part(**given)
    except UserError as error:  # a part within a part speaks of itself by its own name
        parent, _, own = key.rpartition(".")
        raise (UserError(f"{parent}.{error}") if parent and str(error).startswith(f"{own}.") else error) from None


def _check_given(part: object, key: str, given: Collection[str]) -> None:
    """Raise UserError where the part at `key` is none that waits, or does not take what it is given."""
    wanted = ", ".join(given)
    if part is None or isinstance(part, (str, int, float, Mapping, Sequence)):
        raise UserError(_no_part(part, key))
    if not isinstance(part, partial) and not inspect.isroutine(part) and not inspect.isclass(part):
        raise UserError(
            f"{key} ({name_of(part)}) is built already, but the model gives it {wanted}: add _partial_: true to its "
            "config"
        )
    bound = part.keywords if isinstance(part, partial) else {}
    for name in given:
        if name in bound:
            raise UserError(f"{key}.{name}={bound[name]}: {name} is given by the model; drop it with ~{key}.{name}")
    function = part.func if isinstance(part, partial) else part
    names = takes(function)
    strange = [name for name in given if names is not None and name not in names]
    if names is not None and strange:
        raise UserError(
            f"{key} ({name_of(function)}) takes no {' and no '.join(strange)}, but the model gives it {wanted}; "
            f"it takes {_listed(names)}"
        )
    _check_names(function, key, [*bound, *given], waits=isinstance(part, partial) and bool(part.args))


def load(target: str, key: str) -> Callable[..., object]:
    """The class or function of a `_target_`; raises UserError where there is none.

    What a module of the user raises while it is imported is left as it is.
    """
    try:
        return get_object(target)
    except (ImportError, ValueError) as error:
        cause = error.__cause__ or error
        missing = getattr(cause, "name", None) if isinstance(cause, ModuleNotFoundError) else None
        if isinstance(cause, ModuleNotFoundError) and not f"{target}.".startswith(f"{missing}."):
            raise cause from None  # a module that the user's own imports
        if isinstance(cause, (ModuleNotFoundError, AttributeError, ValueError)):
            what = f"there is no module {missing}" if missing else str(cause).partition("\n")[0]
            raise UserError(
                f"{key}._target_={target}: {what}; a module of your own is found where PYTHONPATH says its folder"
            ) from error
        raise cause from None


def takes(function: Callable[..., object]) -> list[str] | None:
    """The names of the arguments that a class or function takes; None where it takes any, or does not say.

    In detkit `**settings` are those of the class above.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        return names
    if inspect.isclass(function) and function.__module__.startswith("detkit."):
        above = takes(function.__mro__[1])
        return None if above is None else [*names, *(name for name in above if name not in names)]
    return None


def name_of(part: object) -> str:
    """What a class, a function, a partial of one or an object is called in its file."""
    part = part.func if isinstance(part, partial) else part
    return str(getattr(part, "__qualname__", None) or type(part).__qualname__)


def _check_names(function: Callable[..., object], key: str, names: Sequence[str], *, waits: bool) -> None:
    """Raise UserError where `function` does not take one of `names`, or, unless more will come, needs another."""
    known = takes(function)
    if known is None:
        return
    strange = [name for name in names if name not in known]
    if strange:
        drop = " ".join(f"~{key}.{name}" for name in strange)
        raise UserError(
            f"{key} ({name_of(function)}) takes no {' and no '.join(strange)}; it takes {_listed(known)}\n"
            f"where a recipe or a config of yours sets what belongs to another part: {drop}"
        )
    if waits:
        return
    parameters = inspect.signature(function).parameters.values()
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in names
    ]
    if missing:
        raise UserError(
            f"{key} ({name_of(function)}) needs {', '.join(missing)}, and has {', '.join(names) or 'nothing'}"
        )


def _no_part(node: object, key: str) -> str:
    group = key.replace(".", "/")
    if node is None:
        return f"{key}: there is none; choose one with {group}=..."
    if isinstance(node, Mapping):
        drop = " ".join(f"~{key}.{name}" for name in node)
        return (
            f"{key} has settings ({', '.join(map(str, node))}) but no part that they belong to: choose one with "
            f"{group}=..., or drop them with {drop}"
        )
    option = node if isinstance(node, str) else "..."
    return f"{key}={node} sets the value of a key; to choose the part write {group}={option}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
