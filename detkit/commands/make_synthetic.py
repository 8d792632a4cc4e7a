"""Run `detkit make_synthetic`: draw a data set of scenes."""

from __future__ import annotations

from detkit.config.node import Config, plain
from detkit.data.synthetic.synthetic import write_synthetic


def run_make_synthetic(config: Config) -> int:
    """Draw the set that the config describes and say how to use it."""
    arguments = plain(config)
    root = arguments.pop("root")
    written = write_synthetic(root, **arguments)
    print(f"{'wrote' if written else 'already there:'} {root}; use it with: data=voc data.root={root}")
    return 0
