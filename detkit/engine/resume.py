"""Which checkpoint a run goes on from, in which folder, and whether it is the same training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from detkit.engine.checkpoint import find_checkpoint
from detkit.errors import UserError

# What may differ between a run and its continuation: it changes how long or how fast, or where, not what is learned.
FREE = (
    "resume", "run_dir", "device", "logger", "loader.num_workers", "data.root", "evaluation",
    "trainer.budget", "trainer.eval_every", "trainer.save_every", "trainer.patience", "trainer.compile",
)  # fmt: skip


def find_run(resume: str | bool | None, run_dir: Path) -> tuple[Path | None, Path]:
    """(the checkpoint to go on from or None, the folder of the run).

    resume: null starts anew in `run_dir`. A path (last.pt or a run folder) goes on with that run, in its folder.
    true goes on with the run in `run_dir`, else with the newest one beside it; where there is none it starts anew.
    """
    if resume is None or resume is False:
        return None, run_dir
    if resume is True:
        runs = [run_dir, *sorted(run_dir.parent.glob("*/"), key=lambda path: path.name, reverse=True)]
        found = next((run for run in runs if (run / "checkpoints" / "last.pt").is_file()), None)
        return (None, run_dir) if found is None else (found / "checkpoints" / "last.pt", found)
    checkpoint = find_checkpoint(resume, "last.pt").resolve()
    return checkpoint, checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def check_same_training(saved: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> None:
    """Raise UserError that names the keys in which `config` differs from that of the checkpoint at `path`."""
    before, now = dict(_leaves(saved)), dict(_leaves(config))
    different = [
        f"{key}={now.get(key, '<absent>')} (was {before.get(key, '<absent>')})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not any(key == free or key.startswith(f"{free}.") for free in FREE)
    ]
    if different:
        raise UserError(
            f"resume={path}: this is another training than the one it was saved by: {', '.join(different)}\n"
            "repeat the command of the first run and add resume=..."
        )


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
