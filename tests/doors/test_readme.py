"""The table of doors is the one that the tests make."""

from __future__ import annotations

from doors import HERE, table


def test_the_table_says_what_the_tests_hold():
    assert (HERE / "README.md").read_text(encoding="utf-8") == table(), "run: python tests/doors/doors.py"
