from __future__ import annotations

import numba
import pytest

from detkit.core.jit import jit


def test_a_function_whose_machine_code_cannot_be_kept_is_compiled_all_the_same():
    scope: dict = {}
    exec("def double(x):\n    return 2 * x\n", scope)  # in no file, so numba finds no place for its cache
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(scope["double"])
    assert jit(scope["double"])(21) == 42
