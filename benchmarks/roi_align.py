"""RoIAlign of detkit against torchvision's kernel on this CPU: forward, backward and inference, interleaved.

python benchmarks/roi_align.py [--rounds 7]   writes benchmarks/results/roi_align.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision.ops
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detkit.core.environment import describe_environment  # noqa: E402
from detkit.ops.pool.roi_align import roi_align  # noqa: E402

Pool = Callable[[Tensor, Tensor], Tensor]


def ours(feature: Tensor, regions: Tensor) -> Tensor:
    return roi_align(feature, regions, 7, 1 / 8, 2)


def theirs(feature: Tensor, regions: Tensor) -> Tensor:
    return torchvision.ops.roi_align(feature, regions, 7, 1 / 8, 2, aligned=True)


def scene(images: int, per_image: int) -> tuple[Tensor, Tensor]:
    """A feature map of the light model (96 channels, stride 8, 320 x 448 px) and regions of 20 to 80 px."""
    torch.manual_seed(0)
    feature = torch.randn(images, 96, 40, 56).to(memory_format=torch.channels_last)
    corner = torch.rand(images * per_image, 2) * 250
    boxes = torch.cat([corner, corner + 20 + torch.rand(images * per_image, 2) * 60], dim=1)
    owner = torch.arange(images).repeat_interleave(per_image)[:, None].float()
    return feature, torch.cat([owner, boxes], dim=1)


def training(pool: Pool, feature: Tensor, regions: Tensor) -> tuple[float, float]:
    """Milliseconds of a forward and of a backward."""
    leaf = feature.clone(memory_format=torch.channels_last).requires_grad_()
    start = time.perf_counter()
    pooled = pool(leaf, regions)
    middle = time.perf_counter()
    pooled.backward(torch.ones_like(pooled))
    return 1000 * (middle - start), 1000 * (time.perf_counter() - middle)


@torch.inference_mode()
def inference(pool: Pool, feature: Tensor, regions: Tensor) -> float:
    """Milliseconds of a forward without gradient."""
    start = time.perf_counter()
    pool(feature, regions)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    sides = {"ours": ours, "torchvision": theirs}
    batch, single = scene(4, 128), scene(1, 300)
    times: dict[str, dict[str, list[float]]] = {
        side: {"forward": [], "backward": [], "inference": []} for side in sides
    }
    for _ in range(rounds + 1):  # the first round warms up
        for side, pool in sides.items():
            forward, backward = training(pool, *batch)
            times[side]["forward"].append(forward)
            times[side]["backward"].append(backward)
            times[side]["inference"].append(inference(pool, *single))
    medians = {side: {name: statistics.median(row[1:]) for name, row in rows.items()} for side, rows in times.items()}
    result = {
        "what": "RoIAlign 7x7, 2x2 samples: training on 4 images x 128 regions, inference on 1 x 300",
        "median_ms": medians,
        "ratio": {name: medians["ours"][name] / medians["torchvision"][name] for name in medians["ours"]},
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "environment": describe_environment(torch.device("cpu")),
    }
    path = ROOT / "benchmarks" / "results" / "roi_align.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"median_ms": medians, "ratio": result["ratio"]}, indent=1))


if __name__ == "__main__":
    main()
