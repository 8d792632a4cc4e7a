"""Compile inner loops, also where nothing can be written to disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F, *, nogil: bool = False, fastmath: bool | set[str] = False) -> F:
    """Compile `function` to machine code, cached beside the module or in the user's cache if either is writable.

    nogil, fastmath: of `numba.njit`.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=nogil, fastmath=fastmath)(function))
    except RuntimeError:  # no writable place for the cache, e.g. a read-only container: compile in each process
        return cast(F, numba.njit(nogil=nogil, fastmath=fastmath)(function))
