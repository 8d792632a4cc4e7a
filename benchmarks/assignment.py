"""What assigning objects to boxes costs: SSD's matching of one crowded image, and training steps, before and after.

python benchmarks/assignment.py [--device cuda]   writes benchmarks/results/assignment_<device>.json

Before: the highest of all overlaps is looked up once for each object, image by image. After: every object asks for its
best box, all images of the batch at once. Both are checked to give the same, ties included. SimOTA is timed for the
batch, and by the same code image by image. A training step is forward, backward and update of SGD on one batch of
noise in memory; what is compared takes turns in one process, so that other work on the machine meets all of it.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from speed import ROOT, noise_batch, random_detector
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import box_iou

from detkit.core.distributed import choose_device
from detkit.core.environment import describe_environment
from detkit.core.structures import Target
from detkit.infer.execution import Execution
from detkit.model.detector import Detector
from detkit.model.layers.depthwise import speed_up_depthwise
from detkit.ops.assign.match import NEGATIVE, match_bipartite, match_default_boxes
from detkit.ops.assign.objects import Objects, match_each, objects_of
from detkit.ops.assign.simota import assign_simota

CROWD, SIDE = 200, 300
SSD300 = (38, 19, 10, 5, 3, 1)  # cells of its maps


def main() -> None:
    """Print and write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", nargs="*", default=["ssd300", "yolox_tiny"], help="of SSD or YOLOX")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--objects", type=int, default=10, help="in each image of a training step")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    device = choose_device(options.device)
    crowds = [crowded(kind, device, options.seed, max(5, options.rounds)) for kind in ("spread", "clustered")]
    for row in crowds:
        print(
            f"{row['objects']} {row['kind']} objects on {row['boxes']} boxes: {row['before_ms']:.0f} ms before, "
            f"{row['after_ms']:.1f} ms after, {row['ratio']:.0f} times as fast; with the overlaps "
            f"{row['before_with_overlaps_ms']:.0f} and {row['after_with_overlaps_ms']:.1f} ms"
        )
    steps = []
    for model in options.models:
        steps.append(training(model, device, options))
        row = steps[-1]
        for way, found in row["ways"].items():
            print(
                f"{model}, {way}: {found['images_per_s']:.2f} images/s, the assignment alone "
                f"{found['assignment_ms']:.1f} ms, {found['operators']} operators"
            )
        print(
            f"{model}: of the time one by one, a step takes {row['step_ratio']:.3f}, "
            f"assigning {row['assignment_ratio']:.2f}"
        )
    environment = describe_environment(device)
    content = {
        "protocol": {
            "device": environment["device"],
            "threads": torch.get_num_threads(),
            "batch": options.batch,
            "objects": options.objects,
            "rounds": options.rounds,
            "warmup": options.warmup,
            "seed": options.seed,
            "time": "median of rounds in which the ways take turns; ratio: median of the ratios of rounds",
        },
        "matching": crowds,
        "training": steps,
        "environment": environment,
    }
    name = re.sub(r"[^a-z0-9]+", "_", environment["device"].lower()).strip("_")
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"assignment_{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


def crowded(kind: str, device: torch.device, seed: int, rounds: int) -> dict[str, Any]:
    """One image of `CROWD` objects on the default boxes of SSD300, by the loop and by what took its place."""
    torch.manual_seed(seed)
    default_boxes = random_detector("ssd300").dense_head.default_boxes  # type: ignore[union-attr]
    boxes = default_boxes([torch.zeros(1, 1, n, n) for n in SSD300], (SIDE, SIDE)).to(device)  # type: ignore[operator]
    corner = torch.rand(CROWD, 2) * 270 if kind == "spread" else 120 + torch.randn(CROWD, 2) * 15
    gt_boxes = torch.cat([corner, corner + 6 + torch.rand(CROWD, 2) * 30], dim=1).clamp(0, SIDE).to(device)
    objects = objects_of([of_boxes(gt_boxes)])
    iou = box_iou(gt_boxes, boxes)
    ways: list[Callable[[], Tensor]] = [
        lambda: bipartite_loop(iou, positive=0.5),
        lambda: match_bipartite(iou, objects.image, 1, positive=0.5)[0],
        lambda: bipartite_loop(box_iou(gt_boxes, boxes), positive=0.5),
        lambda: match_default_boxes(boxes, objects, positive=0.5)[0],
    ]
    found = [way() for way in ways]
    if not all(torch.equal(matches, found[0]) for matches in found):
        raise SystemExit("the loop and the matching that took its place differ")
    times = in_turn(ways, device, rounds, warmup=1)
    before, after, before_all, after_all = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    return {
        "kind": kind, "objects": CROWD, "boxes": len(boxes), "before_ms": before, "after_ms": after,
        "ratio": statistics.median(row[0] / row[1] for row in times),
        "before_with_overlaps_ms": before_all, "after_with_overlaps_ms": after_all,
    }  # fmt: skip


def training(model: str, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Training steps of a model with its objects assigned at once and one by one, and the assignment alone."""
    torch.manual_seed(options.seed)
    detector = random_detector(model)
    batch = noise_batch(detector, options.batch)
    height, width = batch.images.shape[2:]
    batch.targets = [some_objects(options.objects, height, width) for _ in range(options.batch)]
    execution = Execution(device)
    batch = execution.place(batch)
    execution.place_model(detector)
    speed_up_depthwise(detector)
    detector.train()
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=1e-6)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(detector(batch).values())).sum().backward()
        optimizer.step()

    place, at_once, one_by_one = assignment_of(detector)
    with patch(place, side_effect=at_once) as seen, torch.no_grad():
        detector(batch)
    given, settings = seen.call_args
    assign = [lambda: at_once(*given, **settings), lambda: one_by_one(*given, **settings)]
    same = [found if isinstance(found, Tensor) else found[0] for found in (way() for way in assign)]
    if not torch.equal(*same):
        raise SystemExit(f"{model}: the objects of the batch go to other boxes than those of its images")
    alone = in_turn(assign, device, 10 * options.rounds, options.warmup)
    ways = [partial(patched, place, function, step) for function in (at_once, one_by_one)]
    steps = in_turn(ways, device, options.rounds, options.warmup)
    found = {}
    for index, name in enumerate(("at once", "one by one")):
        with Operators() as operators:
            assign[index]()
        seconds = statistics.median(row[index] for row in steps)
        found[name] = {
            "step_ms": 1000 * seconds, "images_per_s": options.batch / seconds,
            "assignment_ms": 1000 * statistics.median(row[index] for row in alone), "operators": operators.count,
        }  # fmt: skip
    return {
        "model": model, "canvas": [height, width], "ways": found,
        "step_ratio": statistics.median(row[0] / row[1] for row in steps),
        "assignment_ratio": statistics.median(row[0] / row[1] for row in alone),
    }  # fmt: skip


def assignment_of(detector: Detector) -> tuple[str, Callable[..., Any], Callable[..., Any]]:
    """Where the dense head finds the function that assigns objects, this function, and the same one by one."""
    module = type(detector.dense_head).__module__  # type: ignore[union-attr]
    if module.endswith(".ssd"):
        return f"{module}.match_default_boxes", match_default_boxes, default_boxes_before
    return f"{module}.assign_simota", assign_simota, simota_one_by_one


def patched(place: str, function: Callable[..., Any], run: Callable[[], Any]) -> None:
    """`run` with another function at a place."""
    with patch(place, function):
        run()


def in_turn(ways: Sequence[Callable[[], Any]], device: torch.device, rounds: int, warmup: int) -> list[list[float]]:
    """Seconds of each way in each round after the warm-up, with all that it leaves to the device."""

    def clocked(way: Callable[[], Any]) -> float:
        start = time.perf_counter()
        way()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return [[clocked(way) for way in ways] for _ in range(warmup + rounds)][warmup:]


class Operators(TorchDispatchMode):
    """Counts the operators that reach the device or a view."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def bipartite_loop(iou: Tensor, *, positive: float) -> Tensor:
    """SSD's matching as it was: of all pairs that are left the best is looked up, once for each object."""
    num_objects, num_boxes = iou.shape
    best_iou, best = iou.max(dim=0)
    matches = torch.where(best_iou > positive, best, NEGATIVE)
    left = iou.clone()
    for _ in range(min(num_objects, num_boxes)):
        highest, pair = left.flatten().max(dim=0, keepdim=True)
        gt, box = pair // num_boxes, pair % num_boxes
        matches[box] = torch.where(highest > 0, gt, matches[box])
        left[gt] = -1
        left[:, box] = -1
    return matches


def default_boxes_before(boxes: Tensor, objects: Objects, *, positive: float) -> Tensor:
    """`match_default_boxes` by the loop, image by image; no object is difficult."""
    return match_each(objects, lambda gt_boxes, _: bipartite_loop(box_iou(gt_boxes, boxes), positive=positive))


def simota_one_by_one(
    points: Tensor, strides: Tensor, predicted: Tensor, scores: Tensor, objects: Objects, **settings: Any
) -> tuple[Tensor, Tensor]:
    """`assign_simota` image by image."""
    matches, overlaps, first = [], [], 0
    for image, count in enumerate(objects.counts):
        one, mine = slice(image, image + 1), slice(first, first + count)
        alone = Objects(*(column[mine] for column in objects[:3]), objects.image[mine] - image, [count])
        match, iou = assign_simota(points, strides, predicted[one], scores[one], alone, **settings)
        matches.append(torch.where(match >= 0, match + first, match))
        overlaps.append(iou)
        first += count
    return torch.cat(matches), torch.cat(overlaps)


def some_objects(count: int, height: float, width: float) -> Target:
    """Objects of a twentieth to half of each side of the picture."""
    sides = torch.tensor([width, height])
    extent = (0.05 + 0.45 * torch.rand(count, 2)) * sides
    corner = torch.rand(count, 2) * (sides - extent)
    return of_boxes(torch.cat([corner, corner + extent], dim=1))


def of_boxes(boxes: Tensor) -> Target:
    """Objects with these boxes [N, 4], of class 0, none of them difficult."""
    labels = torch.zeros_like(boxes[:, 0], dtype=torch.int64)
    return {"boxes": boxes, "labels": labels, "difficult": labels.bool()}


if __name__ == "__main__":
    main()
