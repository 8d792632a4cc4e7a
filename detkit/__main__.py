"""`python -m detkit`: the command, where it is not on the PATH."""

from __future__ import annotations

from detkit.commands.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
