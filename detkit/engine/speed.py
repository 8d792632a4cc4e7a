"""How long a detector takes for one image file, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detkit.data.dataset import Sample
from detkit.data.image import read_image
from detkit.data.loader import collate
from detkit.engine.detect import autocast, to_device
from detkit.engine.environment import device_name
from detkit.engine.timing import StageTimer, clock_of
from detkit.model.detector import Detector
from detkit.types import Batch, Target


def measure_speed(
    detector: Detector,
    paths: Sequence[str],
    *,
    precision: str,
    channels_last: bool,
    warmup: int = 10,
    max_seconds: float = 30.0,
) -> dict[str, Any]:
    """Milliseconds per image at batch 1, from the file on disk to detections in memory.

    detector: in eval mode, on its device. paths: image files, taken one after the other. The first `warmup` images
    run before the clock starts. The total comes from a pass without hooks; the stages from a second one, whose
    unexplained rest is "other". A pass ends after `max_seconds`, and after one image at the earliest.
    Returns total_ms {mean, p50, p95}, stages_ms by name in order, and what was measured: device, device_name,
    precision, batch, warmup, images, threads, channels_last.
    """
    run = _Pipeline(detector, precision, channels_last)
    for path in _repeat(paths, warmup):
        run(path)
    totals: list[float] = []
    _for_a_while(paths, max_seconds, lambda path: totals.append(run(path)["total"]))
    rows: list[dict[str, float]] = []
    with StageTimer(detector) as timer:
        _for_a_while(paths[: len(totals)], max_seconds, lambda path: rows.append(run(path, timer)))
    stages = {name: 1000 * float(np.mean([row[name] for row in rows])) for name in rows[0] if name != "total"}
    other = 1000 * float(np.mean([row["total"] for row in rows])) - sum(stages.values())
    milliseconds = 1000 * np.array(totals)
    return {
        "total_ms": {
            "mean": float(milliseconds.mean()),
            "p50": float(np.percentile(milliseconds, 50)),
            "p95": float(np.percentile(milliseconds, 95)),
        },
        "stages_ms": stages | {"other": other},
        "device": str(run.device),
        "device_name": device_name(run.device),
        "precision": precision,
        "channels_last": channels_last,
        "batch": 1,
        "warmup": warmup,
        "images": len(totals),
        "threads": torch.get_num_threads(),
    }


class _Pipeline:
    """One image file at a time through a detector; returns the seconds of each part and of the whole."""

    def __init__(self, detector: Detector, precision: str, channels_last: bool) -> None:
        self.detector = detector
        self.device = detector.pixel_mean.device
        self._precision = precision
        self._channels_last = channels_last
        self._wait = clock_of(detector).wait

    @torch.inference_mode()
    def __call__(self, path: str, timer: StageTimer | None = None) -> dict[str, float]:
        begin = time.perf_counter()
        image = read_image(path)
        decoded = time.perf_counter()
        preprocess = self.detector.preprocess
        pixels = torch.from_numpy(np.ascontiguousarray(preprocess(image).transpose(2, 0, 1)))
        batch = one_image_batch(pixels, (image.shape[0], image.shape[1]), preprocess.pad_multiple)
        prepared = time.perf_counter()
        batch = to_device(batch, self.device, self._channels_last)
        moved = time.perf_counter()
        with autocast(self.device, self._precision):
            self.detector.predict(batch)[0].to("cpu")
        self._wait()
        end = time.perf_counter()
        parts = {"decode": decoded - begin, "preprocess": prepared - decoded, "transfer": moved - prepared}
        return parts | (timer.take() if timer is not None else {}) | {"total": end - begin}


def one_image_batch(pixels: Tensor, original_size: tuple[int, int], pad_multiple: int) -> Batch:
    """A batch of one preprocessed image, uint8 [3, h, w], of which nothing else is known."""
    sample = Sample(pixels, Target(image_id="", original_size=original_size))
    return replace(collate([sample], pad_multiple), targets=None)


def _for_a_while(paths: Sequence[str], seconds: float, action: Callable[[str], Any]) -> None:
    end = time.perf_counter() + seconds
    for path in paths:
        action(path)
        if time.perf_counter() > end:
            return


def _repeat(paths: Sequence[str], count: int) -> Iterator[str]:
    return (paths[index % len(paths)] for index in range(count))
