"""`detkit make_synthetic` from a clone, installed or not: python tools/make_synthetic.py key=value ..."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detkit.commands.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["make_synthetic", *sys.argv[1:]]))
