"""Time detectors per image file at batch 1, by stage; several are interleaved image by image."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.core.environment import device_name
from detkit.core.structures import Batch, Detections, Size, Target
from detkit.data.dataset import Sample
from detkit.data.loader import collate
from detkit.image.read import read_image
from detkit.infer.execution import Execution
from detkit.model.detector import Detector
from detkit.profiling.cpu_load import Load, LoadWatch
from detkit.profiling.timing import StageTimer, clock_of

FEWEST_IMAGES = 3  # timed whatever it takes: below that a median says nothing


class TimedImage(NamedTuple):
    """An image file to be timed on.

    proposals: float32 [P, 4] xyxy in pixels of the file, best first, where the model takes them from outside.
    proposal_seconds: what those took when they were computed; None: that is not known. propose: computes them, from
    uint8 [H, W, 3] RGB, while the model is timed, in place of both. Either way they are the stage "proposals".
    """

    path: str
    proposals: Tensor | None = None
    proposal_seconds: float | None = None
    propose: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None

    @property
    def regions(self) -> str | None:
        """Where the time of the stage "proposals" comes from: "computed" now, "recorded", or "unknown"; None: none."""
        if self.propose is not None:
            return "computed"
        if self.proposals is None:
            return None
        return "unknown" if self.proposal_seconds is None else "recorded"


class Percentiles(TypedDict):
    """Milliseconds of an image."""

    mean: float
    p50: float
    p95: float


class Times(TypedDict):
    """How long an image takes: total_ms of the runs without hooks, stages_ms of those with hooks, means by stage.

    stages_ms has the unexplained rest as "other", so that it sums to the mean with hooks; stage_gap: by what share that
    is off the mean without. first_ms: of the first image of all, which may wait for a compiler.
    """

    total_ms: Percentiles
    stages_ms: dict[str, float]
    stage_gap: float
    first_ms: float


class Timing(Times):
    """How long a detector takes for an image, and what was measured: the detector, how it ran, and the machine.

    warmup, images, passes: how many. regions: `TimedImage.regions`; total_ms lacks those that are "unknown".
    load: of the machine meanwhile.
    """

    device: str
    device_name: str
    runtime: str
    precision: str
    channels_last: bool
    batch: int
    warmup: int
    images: int
    passes: int
    threads: int
    regions: str | None
    load: Load


def measure_speed(
    detector: Detector,
    images: Sequence[TimedImage],
    execution: Execution,
    *,
    warmup: int = 10,
    max_seconds: float = 30.0,
) -> Timing:
    """`measure_together` of one detector, each image once."""
    (timing,) = measure_together(
        {"": detector}, {"": images}, execution, warmup=warmup, max_seconds=max_seconds, passes=1
    ).values()
    return timing


def measure_together(
    detectors: Mapping[str, Detector],
    images: Mapping[str, Sequence[TimedImage]],
    execution: Execution,
    *,
    warmup: int,
    max_seconds: float,
    passes: int,
) -> dict[str, Timing]:
    """Milliseconds per image at batch 1 of each detector, from the file on disk to detections in memory.

    detectors: by name, in eval mode, placed as `execution` says. images: for each, at least one. All take their
    first image, then all their second, so that whatever else the machine does hits all alike. Every image is
    run twice, without hooks for the total and with hooks for the stages, in alternating order; and that in `passes`
    rounds, of which for each image the one of median time counts. All are timed on as many images as fit into
    `max_seconds` of the slowest, but on FEWEST_IMAGES at least; `warmup` of them run before, for a quarter of the
    time, the first of them aside, which may wait for a compiler. Returns the timings by name.
    """
    runs = {
        name: _Run(Pipeline(detector, execution), images[name], max_seconds / passes)
        for name, detector in detectors.items()
    }
    warmed = {name: run.warm_up(warmup, max_seconds / 4) for name, run in runs.items()}
    watch = LoadWatch()
    for number in range(passes):
        for index in range(max((len(run.images) for run in runs.values()), default=0)):
            here = [run for run in runs.values() if index < len(run.images)]
            for run in here:
                run.visit(index, number)
            if number == 0 and index + 1 >= FEWEST_IMAGES and any(run.seconds_left < 0 for run in here):
                for run in runs.values():
                    run.images = run.images[: index + 1]
                break
    load = watch.report()
    return {
        name: {
            **run.summary(),
            "device": str(execution.device),
            "device_name": device_name(execution.device),
            "runtime": run.pipeline.detector.runtime,
            "precision": execution.precision,
            "channels_last": execution.channels_last,
            "batch": 1,
            "warmup": warmed[name],
            "images": len(run.images),
            "passes": passes,
            "threads": torch.get_num_threads(),
            "regions": run.images[0].regions,
            "load": load,
        }
        for name, run in runs.items()
    }


class Pipeline:
    """One image file at a time through a detector: the seconds of each part and of the whole, and what was found."""

    def __init__(self, detector: Detector, execution: Execution) -> None:
        self.detector = detector
        self.execution = execution
        self._wait = clock_of(detector).wait

    @torch.inference_mode()
    def __call__(self, image: TimedImage, timer: StageTimer | None = None) -> tuple[dict[str, float], Detections]:
        begin = time.perf_counter()
        pixels, size = self.detector.preprocess.read(image.path)
        decoded = time.perf_counter()
        regions = image.proposals if image.propose is None else self.propose(image, pixels, size)
        proposed = time.perf_counter()
        batch = self.prepare(pixels, size, regions)
        prepared = time.perf_counter()
        batch = self.execution.place(batch)
        moved = time.perf_counter()
        with self.execution.autocast():
            found = self.detector.predict(batch)[0].to("cpu")
        self._wait()
        end = time.perf_counter()
        parts = {"decode": decoded - begin, "preprocess": prepared - proposed, "transfer": moved - prepared}
        recorded = image.proposal_seconds if image.regions == "recorded" else None
        if image.propose is not None:
            parts["proposals"] = proposed - decoded
        elif recorded is not None:
            parts["proposals"] = recorded
        stages = timer.take() if timer is not None else {}
        return parts | stages | {"total": end - begin + (recorded or 0.0)}, found

    def propose(self, image: TimedImage, pixels: NDArray[np.uint8], size: Size) -> Tensor:
        """The regions of an image, in pixels of its file; pixels, size: as it was read, perhaps at fewer pixels."""
        assert image.propose is not None
        whole = pixels if pixels.shape[:2] == tuple(size) else read_image(image.path)
        return torch.from_numpy(image.propose(whole))

    def read(self, image: TimedImage) -> Batch:
        """The batch of one image file, where the detector is."""
        return self.execution.place(self.prepare(*self.detector.preprocess.read(image.path), image.proposals))

    def prepare(self, image: np.ndarray, size: Size, proposals: Tensor | None = None) -> Batch:
        """The batch of one image, uint8 [H, W, 3] RGB as it was read, of whose file nothing is known but its size."""
        preprocess = self.detector.preprocess
        pixels = torch.from_numpy(np.ascontiguousarray(preprocess(image, size).transpose(2, 0, 1)))
        batch = collate([Sample(pixels, Target(image_id="", original_size=size))], preprocess.pad_multiple)
        regions = None if proposals is None else [preprocess.to_input(proposals, size)]
        return replace(batch, targets=None, proposals=regions)


class _Run:
    """One detector over its images, with what was measured so far: of each image, the passes over it."""

    def __init__(self, pipeline: Pipeline, images: Sequence[TimedImage], seconds: float) -> None:
        self.pipeline = pipeline
        self.images = images
        self.seconds_left = seconds  # of the first pass, which decides how many images there are
        self._first = 0.0
        self._totals: list[list[float]] = [[] for _ in images]
        self._stages: list[list[dict[str, float]]] = [[] for _ in images]

    def warm_up(self, count: int, seconds: float) -> int:
        """Run the first images, the clock aside; returns how many it were. The first counts for no time."""
        end = 0.0
        for index in range(count):
            start = time.perf_counter()
            self.pipeline(self.images[index % len(self.images)])
            if index == 0:
                self._first = time.perf_counter() - start
                end = time.perf_counter() + seconds
            if time.perf_counter() > end:
                return index + 1
        return count

    def visit(self, index: int, number: int) -> None:
        """Time image `index` in pass `number`, twice."""
        start = time.perf_counter()
        for hooked in ((index + number) % 2 == 1, (index + number) % 2 == 0):
            if hooked:
                with StageTimer(self.pipeline.detector) as timer:
                    self._stages[index].append(self.pipeline(self.images[index], timer)[0])
            else:
                self._totals[index].append(self.pipeline(self.images[index])[0]["total"])
        self.seconds_left -= time.perf_counter() - start

    def summary(self) -> Times:
        count = len(self.images)
        totals = 1000 * np.array([sorted(passes)[(len(passes) - 1) // 2] for passes in self._totals[:count]])
        rows = [sorted(passes, key=lambda row: row["total"])[(len(passes) - 1) // 2] for passes in self._stages[:count]]
        means = {name: 1000 * float(np.mean([row[name] for row in rows])) for name in rows[0]}
        hooked = means.pop("total")
        return {
            "total_ms": {
                "mean": float(totals.mean()),
                "p50": float(np.percentile(totals, 50)),
                "p95": float(np.percentile(totals, 95)),
            },
            "stages_ms": means | {"other": hooked - sum(means.values())},
            "stage_gap": round(hooked / float(totals.mean()) - 1, 4),
            "first_ms": 1000 * self._first,
        }
