"""Commands: words, verbs, help."""

from __future__ import annotations

import pytest
from doors import Door

DOORS = [
    Door(
        kind="a verb that does not exist",
        given="",
        command="trian",
        code=2,
        says="no command trian; did you mean train?",
    ),
    Door(
        kind="a key of another place",
        given="",
        command="train trainer.bugdet=5min",
        code=2,
        says="no key trainer.bugdet; did you mean trainer.budget?",
    ),
]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.kind)
def test_door(door, walk):
    walk(door)
