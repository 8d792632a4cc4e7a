"""How fast the detectors train and predict on this machine: milliseconds per step, per image and per stage.

python benchmarks/speed.py --device cuda --models faster_rcnn_light faster_rcnn_fpn --precisions fp32 bf16
writes benchmarks/results/speed_<device>.json

Weights are random and pictures are noise, so nothing is downloaded; the work is that of 20 classes at each model's own
image size. Predicting is batch 1 from a file, training a step of SGD on one batch in memory, both after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detkit.config import build_detector, build_preprocess, without_pretrained  # noqa: E402
from detkit.data.dataset import Sample  # noqa: E402
from detkit.data.loader import collate  # noqa: E402
from detkit.engine.detect import autocast, place_model, to_device  # noqa: E402
from detkit.engine.distributed import choose_device  # noqa: E402
from detkit.engine.environment import describe_environment  # noqa: E402
from detkit.engine.speed import TimedImage, measure_speed  # noqa: E402
from detkit.model.detector import Detector  # noqa: E402
from detkit.types import Batch, Target  # noqa: E402

IMAGE_SIZE, NUM_CLASSES, OBJECTS = (375, 500), 20, 3  # a typical PASCAL VOC picture
WARMUP = 3


def main() -> None:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", nargs="+", default=["faster_rcnn_light"])
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, for each measurement")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    device = choose_device(options.device)
    rows = []
    for model in options.models:
        for precision in options.precisions:
            torch.manual_seed(0)
            detector = random_detector(model)
            place_model(detector, device, channels_last=True)
            row = {
                "model": model,
                "precision": precision,
                "predict": predicting(detector, precision, options.seconds),
                "train": training(detector, device, precision, options.batch, options.seconds),
            }
            predict, train = row["predict"], row["train"]
            print(
                f"{model} {precision}: predict p50 {predict['total_ms']['p50']:.1f} ms per image, "
                f"train {train['step_ms']:.1f} ms per step of {options.batch}"
            )
            rows.append(row)
    environment = describe_environment(device)
    name = re.sub(r"[^a-z0-9]+", "_", environment["device"].lower()).strip("_")
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"speed_{name}.json"
    path.write_text(json.dumps({"environment": environment, "results": rows}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def random_detector(model: str) -> Detector:
    """The detector of `model=<model>` with random weights."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", overrides=[f"model={model}", "data.root=unused"])
    settings: Any = OmegaConf.to_container(config.model, resolve=True)
    preprocess: Any = OmegaConf.to_container(config.preprocess, resolve=True)
    return build_detector(without_pretrained(settings), NUM_CLASSES, build_preprocess(preprocess))


def predicting(detector: Detector, precision: str, seconds: float) -> dict[str, Any]:
    """`measure_speed` on pictures of noise."""
    noise = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{index}.jpg" for index in range(20)]
        for path in paths:
            Image.fromarray(noise.integers(0, 256, (*IMAGE_SIZE, 3), np.uint8)).save(path)
        detector.eval()
        images = [TimedImage(path) for path in paths]
        return measure_speed(
            detector, images, precision=precision, channels_last=True, warmup=WARMUP, max_seconds=seconds
        )


def training(
    detector: Detector, device: torch.device, precision: str, batch_size: int, seconds: float
) -> dict[str, Any]:
    """The median step, forward, backward and update, on one batch; and the memory it takes on a GPU."""
    batch = to_device(noise_batch(detector, batch_size), device, channels_last=True)
    detector.train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-6)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < WARMUP + 3 or (time.perf_counter() < end and len(times) < WARMUP + 50):
        start = time.perf_counter()
        with autocast(device, precision):
            losses = detector(batch)
        scaler.scale(torch.stack([loss.float() for loss in losses.values()]).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    step = statistics.median(times[WARMUP:])
    memory = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {
        "batch": batch_size,
        "step_ms": 1000 * step,
        "images_per_s": batch_size / step,
        "steps": len(times) - WARMUP,
        "peak_memory_mib": memory,
    }


def noise_batch(detector: Detector, batch_size: int) -> Batch:
    """Noise in the detector's own input size, with a few objects in each picture."""
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
        samples.append(Sample(image, target))
    return collate(samples, detector.preprocess.pad_multiple)


if __name__ == "__main__":
    main()
