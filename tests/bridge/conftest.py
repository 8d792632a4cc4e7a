"""Makes `darknet_reference` and `darknet_nets`, and `scenes` of the tests of models, importable."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "model")]  # at the end: other folders have a `conftest` to import too
