"""How fast the detectors train and predict on this machine: milliseconds per step, per image and per stage.

python benchmarks/speed.py --device cuda --models ssd300 --precisions fp32 bf16 --runtimes eager compiled
writes benchmarks/results/speed_<device>.json

Weights are random and pictures are noise, so nothing is downloaded; the work is that of 20 classes at each model's own
image size, and of 2000 regions per picture for models that take them from outside. Predicting one picture starts from
its file, predicting and training a batch from pixels in memory; training is a step of SGD; all after a warm-up.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detkit.checkpoint.build import build_detector, build_preprocess, without_pretrained  # noqa: E402
from detkit.core.distributed import choose_device  # noqa: E402
from detkit.core.environment import describe_environment  # noqa: E402
from detkit.core.structures import Batch, Target  # noqa: E402
from detkit.data.dataset import Sample  # noqa: E402
from detkit.data.loader import collate  # noqa: E402
from detkit.infer.detect import place_for_inference  # noqa: E402
from detkit.infer.execution import Execution  # noqa: E402
from detkit.model.detector import Detector  # noqa: E402
from detkit.model.proposer.precomputed import PrecomputedProposals  # noqa: E402
from detkit.profiling.speed import TimedImage, measure_speed  # noqa: E402

IMAGE_SIZE, NUM_CLASSES, OBJECTS = (375, 500), 20, 3  # a typical PASCAL VOC picture
REGIONS = 2000  # per picture, of models that take them from outside
WARMUP = 3


def main() -> None:
    """Run the benchmark that the command line asks for; what is measured is written as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", nargs="+", default=["faster_rcnn_light"])
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--runtimes", nargs="+", default=["eager"], choices=["eager", "compiled"])
    parser.add_argument("--batch", type=int, default=4, help="of a training step, and of predicting in batches")
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, for each measurement")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    device = choose_device(options.device)
    environment = describe_environment(device)
    name = re.sub(r"[^a-z0-9]+", "_", environment["device"].lower()).strip("_")
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"speed_{name}.json"
    rows: list[dict[str, Any]] = []
    # models inside: what is quick to measure is on the disk before the first compilation starts
    for what, model, precision in itertools.product(("train", *options.runtimes), options.models, options.precisions):
        row: dict[str, Any] = {"model": model, "precision": precision, "what": what}
        try:
            row |= measured(model, precision, what, device, options.batch, options.seconds)
        except Exception as error:  # of one model, which must not take the others with it
            row["error"] = f"{type(error).__name__}: {error}"
        rows.append(row)
        print(line(row), flush=True)
        content = {"environment": environment, "tf32": tf32(device), "results": rows}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        torch._dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()
    print(f"written to {path}")
    failed = sum("error" in row for row in rows)
    if failed:
        sys.exit(f"{failed} of {len(rows)} measurements failed")


def measured(
    model: str, precision: str, what: str, device: torch.device, batch_size: int, seconds: float
) -> dict[str, Any]:
    """One row of the result: `what` is "train" or a runtime."""
    torch.manual_seed(0)
    detector = random_detector(model)
    if what == "train":
        return training(detector, Execution(device, precision), batch_size, seconds)
    execution = Execution(device, precision, runtime=what)
    return predicting(place_for_inference(detector, execution), execution, batch_size, seconds)


def line(row: dict[str, Any]) -> str:
    """What was measured, for a person."""
    head = f"{row['model']:<20}{row['precision']:<6}{row['what']:<10}"
    if "error" in row:
        return head + row["error"]
    if row["what"] == "train":
        return head + f"{row['step_ms']:8.1f} ms per step of {row['batch']}, {row['images_per_s']:.1f} images/s"
    stages = ", ".join(f"{name} {ms:.1f}" for name, ms in row["one"]["stages_ms"].items())
    return head + (
        f"{row['one']['total_ms']['p50']:8.1f} ms per image from its file ({stages}); "
        f"{row['many']['ms_per_image']:.1f} in batches of {row['many']['batch']}"
    )


def tf32(device: torch.device) -> dict[str, bool]:
    """Whether float32 products are of TF32 on this device, as PyTorch is set when nobody sets it."""
    cuda = device.type == "cuda"
    backends = torch.backends
    return {"convolutions": cuda and backends.cudnn.allow_tf32, "matmul": cuda and backends.cuda.matmul.allow_tf32}


def random_detector(model: str) -> Detector:
    """The detector of `model=<model>` with random weights."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", overrides=[f"model={model}", "data.root=unused"])
    settings: Any = OmegaConf.to_container(config.model, resolve=True)
    preprocess: Any = OmegaConf.to_container(config.preprocess, resolve=True)
    return build_detector(without_pretrained(settings), NUM_CLASSES, build_preprocess(preprocess))


def predicting(detector: Detector, execution: Execution, batch_size: int, seconds: float) -> dict[str, Any]:
    """Pictures of noise, one at a time as `measure_speed` does, and in batches of tensors in memory."""
    noise = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{index}.jpg" for index in range(20)]
        for path in paths:
            Image.fromarray(noise.integers(0, 256, (*IMAGE_SIZE, 3), np.uint8)).save(path)
        regions = some_regions(REGIONS, *IMAGE_SIZE) if needs_regions(detector) else None
        one = measure_speed(
            detector,
            [TimedImage(path, regions) for path in paths],
            execution,
            warmup=WARMUP,
            max_seconds=seconds,
        )
    batch = replace(execution.place(noise_batch(detector, batch_size)), targets=None)

    @torch.inference_mode()
    def run() -> None:
        with execution.autocast():
            detector.predict(batch)

    took = repeated(run, execution.device, seconds)
    many = {"batch": batch_size, "ms_per_image": 1000 * statistics.median(took) / batch_size, "runs": len(took)}
    return {"one": one, "many": many, "peak_memory_mib": peak_memory(execution.device)}


def training(detector: Detector, execution: Execution, batch_size: int, seconds: float) -> dict[str, Any]:
    """The median step, forward, backward and update, on one batch; and the memory it takes on a GPU."""
    device = execution.device
    execution.place_model(detector)
    batch = execution.place(noise_batch(detector, batch_size))
    detector.train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-6)
    scaler = torch.amp.GradScaler(device.type, enabled=execution.precision == "fp16")

    def step() -> None:
        with execution.autocast():
            losses = detector(batch)
        scaler.scale(torch.stack([loss.float() for loss in losses.values()]).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    took = repeated(step, device, seconds)
    median = statistics.median(took)
    return {
        "batch": batch_size,
        "step_ms": 1000 * median,
        "images_per_s": batch_size / median,
        "steps": len(took),
        "peak_memory_mib": peak_memory(device),
    }


def repeated(run: Callable[[], None], device: torch.device, seconds: float) -> list[float]:
    """Seconds of each of 3 to 50 runs after a warm-up, with all that they leave to the device."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < WARMUP + 3 or (time.perf_counter() < end and len(times) < WARMUP + 50):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
        if len(times) == 1:  # which may have waited for a compiler
            end = time.perf_counter() + seconds
    return times[WARMUP:]


def peak_memory(device: torch.device) -> float | None:
    """MiB that tensors have taken of the GPU at most since the last call."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def needs_regions(detector: Detector) -> bool:
    """Whether the detector takes its regions from outside."""
    return isinstance(getattr(detector, "proposer", None), PrecomputedProposals)


def some_regions(count: int, height: float, width: float) -> Tensor:
    """Boxes of a tenth to a half of each side of the picture: float32 [count, 4]."""
    generator = torch.Generator().manual_seed(0)
    side = torch.tensor([width, height])
    extent = (0.1 + 0.4 * torch.rand(count, 2, generator=generator)) * side
    corner = torch.rand(count, 2, generator=generator) * (side - extent)
    return torch.cat([corner, corner + extent], dim=1)


def noise_batch(detector: Detector, batch_size: int) -> Batch:
    """Noise in the detector's own input size, with a few objects in each picture, and regions where it takes them."""
    generator = torch.Generator().manual_seed(0)
    height, width = detector.preprocess.geometry(IMAGE_SIZE).size
    samples = []
    for index in range(batch_size):
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
        corner = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([0.6 * width, 0.6 * height])
        extent = (0.1 + 0.3 * torch.rand(OBJECTS, 2, generator=generator)) * torch.tensor([width, height])
        target = Target(
            boxes=torch.cat([corner, corner + extent], dim=1),
            labels=torch.randint(0, NUM_CLASSES, (OBJECTS,), generator=generator),
            difficult=torch.zeros(OBJECTS, dtype=torch.bool),
            image_id=str(index),
            original_size=IMAGE_SIZE,
        )
        if needs_regions(detector):
            target["proposals"] = some_regions(REGIONS, height, width)
        samples.append(Sample(image, target))
    return collate(samples, detector.preprocess.pad_multiple)


if __name__ == "__main__":
    main()
