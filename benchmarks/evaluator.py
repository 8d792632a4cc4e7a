"""Our evaluator against pycocotools on synthetic detections: seconds, ratio, and the largest difference of a number.

python benchmarks/evaluator.py --cases 1000x5 5000x1     images x runs; writes benchmarks/results/evaluator.json

Both sides get their records in memory and run one after the other, in turn; the medians are compared. Ours computes
VOC, COCO and the confusion matrix, pycocotools the COCO numbers only. Compilation (once, then cached) is not timed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detkit.metric.evaluate import evaluate  # noqa: E402
from detkit.metric.records import GroundTruth, Predictions  # noqa: E402

NUM_CLASSES, OBJECTS, DETECTIONS = 80, 8, 100  # the last two for each image
NAMES = ["AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR_1", "AR_10", "AR_100", "AR_S", "AR_M", "AR_L"]


def make_records(num_images: int, seed: int = 0) -> tuple[GroundTruth, Predictions]:
    """Objects of 8 to 200 px, and detections around them, of which six in ten have the right class."""
    rng = np.random.default_rng(seed)
    num_objects, num_found = num_images * OBJECTS, num_images * DETECTIONS
    corner, size = rng.uniform(0, 400, (num_objects, 2)), rng.uniform(8, 200, (num_objects, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    labels = rng.integers(0, NUM_CLASSES, num_objects)
    image = np.repeat(np.arange(num_images), DETECTIONS)
    source = image * OBJECTS + rng.integers(0, OBJECTS, num_found)
    found = boxes[source] + rng.normal(0, 8, (num_found, 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    right = rng.random(num_found) < 0.6
    return (
        GroundTruth(image=np.repeat(np.arange(num_images), OBJECTS), boxes=boxes, labels=labels, num_images=num_images),
        Predictions(
            image=image,
            boxes=found,
            scores=rng.random(num_found),
            labels=np.where(right, labels[source], rng.integers(0, NUM_CLASSES, num_found)),
        ),
    )


def to_coco(ground_truth: GroundTruth, predictions: Predictions) -> tuple[COCO, COCO]:
    """The same records as pycocotools keeps them."""

    def xywh(boxes: np.ndarray) -> np.ndarray:
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    truth = COCO()
    truth.dataset = {
        "images": [{"id": index} for index in range(ground_truth.num_images)],
        "categories": [{"id": label, "name": str(label)} for label in range(NUM_CLASSES)],
        "annotations": [
            {"id": k + 1, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": 0}
            for k, (image, label, box, area) in enumerate(
                zip(
                    ground_truth.image.tolist(),
                    ground_truth.labels.tolist(),
                    xywh(ground_truth.boxes).tolist(),
                    ground_truth.area.tolist(),
                    strict=True,
                )
            )
        ],
    }
    columns = (predictions.image, xywh(predictions.boxes), predictions.scores, predictions.labels)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        return truth, truth.loadRes(np.column_stack(columns))


def run_pycocotools(truth: COCO, found: COCO) -> list[float]:
    """The twelve numbers."""
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats.tolist()


def run_ours(ground_truth: GroundTruth, predictions: Predictions) -> list[float]:
    """The twelve numbers, and all others on the way."""
    coco = evaluate(predictions, ground_truth, [str(label) for label in range(NUM_CLASSES)])["coco"]
    return [coco[name] for name in NAMES]


def measure(num_images: int, runs: int) -> dict[str, Any]:
    """One case: medians of `runs` interleaved runs of both sides."""
    records = make_records(num_images)
    coco = to_coco(*records)
    run_ours(*make_records(2))  # compile
    seconds: dict[str, list[float]] = {"detkit": [], "pycocotools": []}
    difference = 0.0
    for _ in range(runs):
        start = time.perf_counter()
        ours = run_ours(*records)
        middle = time.perf_counter()
        theirs = run_pycocotools(*coco)
        seconds["detkit"].append(middle - start)
        seconds["pycocotools"].append(time.perf_counter() - middle)
        difference = max(difference, float(np.abs(np.subtract(ours, theirs)).max()))
    tracemalloc.start()
    run_ours(*records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "images": num_images,
        "detections_per_image": DETECTIONS,
        "objects_per_image": OBJECTS,
        "classes": NUM_CLASSES,
        "runs": runs,
        "median_s": {name: round(value, 3) for name, value in median.items()},
        "times_faster": round(median["pycocotools"] / median["detkit"], 1),
        "largest_difference": difference,
        "peak_mib_of_ours": round(peak / 2**20),
    }


def environment() -> dict[str, Any]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo")  # on Linux only
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "numba", "pycocotools")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["1000x5"], metavar="IMAGESxRUNS")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "evaluator.json")
    arguments = parser.parse_args()
    rows = []
    for case in arguments.cases:
        images, runs = (int(number) for number in case.split("x"))
        rows.append(measure(images, runs))
        print(json.dumps(rows[-1]), flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"environment": environment(), "cases": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
