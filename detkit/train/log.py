"""Log a training: progress bar, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detkit.core.plain import Metrics
from detkit.run.budget import Duration, Progress
from detkit.task.base import select


class Window:
    """Means of what happened since the last line of the log."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start again."""
        self.steps = 0
        self.images = 0
        self.seconds = 0.0
        self.waited = 0.0
        self._sums: dict[str, float] = {}

    def add(self, values: Mapping[str, float], *, images: int, seconds: float, waited: float) -> None:
        """Take in one step: its loss terms, and how many of its seconds went into waiting for data."""
        self.steps += 1
        self.images += images
        self.seconds += seconds
        self.waited += waited
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """By name in TensorBoard: train/loss/<term>, train/grad_norm, time/..."""
        if not self.steps:
            return {}
        losses = {f"train/{name}": total / self.steps for name, total in self._sums.items()}
        return losses | {
            "time/step_s": self.seconds / self.steps,
            "time/data_wait": self.waited / max(self.seconds, 1e-9),
            "time/images_per_s": self.images / max(self.seconds, 1e-9),
        }


class RunLog:
    """The log of one run; a process that is not the main one has a silent one.

    folder: gets metrics.jsonl and tensorboard/. now: where the run starts or goes on. every: steps between two rows
    of training. pictures: how many of each evaluation `draw` is to be given. bar: whether to show progress on
    stderr: a bar on a terminal, a line every half minute elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        budget: Duration,
        now: Progress,
        *,
        every: int,
        tensorboard: bool,
        pictures: int,
        bar: bool,
        silent: bool,
    ) -> None:
        self.every = every
        self._budget = budget
        self.pictures = pictures if tensorboard and not silent else 0
        self._path = None if silent else folder / "metrics.jsonl"
        if self._path is not None:
            forget_after(self._path, now.step)
        self._board: Any = None
        if tensorboard and not silent:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=now.step + 1)
        self._show = bar and not silent
        self._bar = (
            tqdm(total=budget.total, bar_format="{percentage:3.0f}%|{bar:20}|")
            if self._show and sys.stderr.isatty()
            else None
        )
        self._silent = silent
        self._next_line = time.monotonic()

    def message(self, text: str) -> None:
        """A line for the reader, above the bar."""
        if not self._silent and text:
            tqdm.write(text, file=sys.stderr)

    def write(self, phase: str, epoch: float, now: Progress, values: Mapping[str, object]) -> None:
        """One row of metrics.jsonl, and a TensorBoard scalar for every number in it."""
        if self._path is None:
            return
        row = {"step": now.step, "epoch": round(epoch, 4), "time": round(now.seconds, 3), "phase": phase}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row | {key: _plain(value) for key, value in values.items()}) + "\n")
        if self._board is not None:
            for key, value in values.items():
                if isinstance(value, (int, float)) and math.isfinite(value):
                    self._board.add_scalar(key, value, now.step)

    def draw(self, pictures: Sequence[Any], now: Progress) -> None:
        """PIL images for TensorBoard."""
        if self._board is not None:
            for index, picture in enumerate(pictures):
                self._board.add_image(f"val/{index}", np.asarray(picture), now.step, dataformats="HWC")

    def show(self, epoch: float, now: Progress, values: Mapping[str, float]) -> None:
        """Move the bar on; `values` as from `Window.means`."""
        if not self._show:
            return
        if self._bar is not None:
            self._bar.n = min(1.0, self._budget.passed(now)) * self._budget.total
            # tqdm's own postfix begins with a comma
            head, status = f"epoch {epoch:.2f} step {now.step}", self._status(now, values)
            self._bar.bar_format = f"{head} {{percentage:3.0f}}%|{{bar:20}}| {status}"
            self._bar.update(0)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 30
            percent = min(100.0, 100 * self._budget.passed(now))
            self.message(f"epoch {epoch:.2f} step {now.step} {percent:.0f}% {self._status(now, values)}")

    def _status(self, now: Progress, values: Mapping[str, float]) -> str:
        passed = self._budget.passed(now)
        left = now.seconds * (1 - passed) / passed if passed > 0 else math.inf
        losses = [(name.removeprefix("train/loss/"), value) for name, value in values.items() if "/loss/" in name]
        text = " ".join(f"{name} {value:.3f}" for name, value in losses)
        return (
            f"{text} | {values.get('time/images_per_s', 0):.1f} img/s, "
            f"wait {100 * values.get('time/data_wait', 0):.0f}%, left {clock(left)}"
        )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
        if self._board is not None:
            self._board.close()


def forget_after(path: Path, step: int) -> None:
    """Drop the rows that a run wrote after its last checkpoint, at `step`, and before it was killed."""
    if path.is_file():
        rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= step))


def scalars(metrics: Metrics, names: Sequence[str]) -> dict[str, float]:
    """The overall numbers of an evaluation by their name in TensorBoard: val/mAP_area, val/AP50, ...

    names: dotted, of `Task.metric_names`.
    """
    values = {f"val/{name.rpartition('.')[2]}": select(metrics, name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, float)}


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _plain(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value
