"""How fast detkit finds objects, against torchvision with the same weights: both in turn, in one process.

python benchmarks/inference.py [--models ssd300_vgg16] [--rounds 7]   writes benchmarks/results/inference.json

One 480x640 picture, from the tensor in memory to detections in memory, batch 1: resizing, network, NMS. Weights are
random and fixed, nothing is downloaded; their outputs are scaled to vary as those of a trained detector do, and the
score threshold lets as many candidates through as a trained detector would. torchvision runs as it does by default,
eagerly in float32; a ratio below 1 means that detkit is faster.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detkit.checkpoint.build import build_from_checkpoint  # noqa: E402
from detkit.checkpoint.torchvision.read_torchvision import read_torchvision  # noqa: E402
from detkit.core.environment import describe_environment  # noqa: E402
from detkit.core.structures import Detections  # noqa: E402
from detkit.infer.loaded_detector import LoadedDetector  # noqa: E402
from detkit.profiling.timing import interleaved_ms  # noqa: E402

NUM_CLASSES, CANDIDATES = 90, 300  # of COCO's numbering; pairs of box and class above the score threshold
# the most that may be left of torchvision's time, by model and precision
BARS = {
    "fasterrcnn_resnet50_fpn": {"fp32": 0.65, "bf16": 0.40},
    "ssd300_vgg16": {"fp32": 0.85, "bf16": 0.52},
    "ssdlite320_mobilenet_v3_large": {"fp32": 0.60},
}
# how much class scores and box offsets vary over a picture
SPREAD = {
    "fasterrcnn": {
        "rpn.head.cls_logits": 2.0, "rpn.head.bbox_pred": 0.3,
        "roi_heads.box_predictor.cls_score": 2.0, "roi_heads.box_predictor.bbox_pred": 1.0,
    },
    "ssd": {"head.classification_head": 2.0, "head.regression_head": 1.0},
}  # fmt: skip


def main() -> None:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=7, help="runs of each side, of which the median counts")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "inference.json")
    options = parser.parse_args()
    rows = []
    if "bf16" in options.precisions and not bf16_instructions():
        print("this processor has no instructions for bfloat16: its convolutions take longer than those of float32")
    print(f"{'model':<32}{'precision':<10}{'runtime':<10}{'ms':>8}{'torchvision':>13}{'ratio':>8}{'bar':>6}")
    for name in options.models:
        for row in compare(name, options.precisions, options.rounds):
            bar = "" if row["bar"] is None else f"{row['bar']:.2f}"
            print(
                f"{name:<32}{row['precision']:<10}{row['runtime']:<10}{row['median_ms']:>8.1f}"
                f"{row['torchvision_ms']:>13.1f}{row['ratio']:>8.2f}{bar:>6}{' above' if row['above_bar'] else ''}",
                flush=True,
            )
            rows.append(row)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "what": "one 480x640 picture, tensor in memory to detections, batch 1; ratio of medians, detkit / torchvision",
        "rounds": options.rounds,
        "bf16_instructions": bf16_instructions(),
        "environment": describe_environment(torch.device("cpu")),
        "results": rows,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {options.output}")


def compare(name: str, precisions: list[str], rounds: int) -> list[dict[str, Any]]:
    """A row for each way that detkit runs the model called `name`, timed in turn with torchvision."""
    picture = picture_of_blobs()
    reference = random_reference(name, picture)
    state = {key: value.clone() for key, value in reference.state_dict().items()}
    content = read_torchvision(name, weights=state, classes=[str(label) for label in range(NUM_CLASSES)])
    ways = [("fp32", "eager"), *((precision, "compiled") for precision in BARS[name] if precision in precisions)]
    loaded = {
        way: LoadedDetector(build_from_checkpoint(content), classes=content.classes, precision=way[0], runtime=way[1])
        for way in ways
    }
    threshold = score_threshold(loaded["fp32", "eager"], picture)
    (reference.roi_heads if hasattr(reference, "roi_heads") else reference).score_thresh = threshold
    for detector in loaded.values():
        detector.detector.postprocess.score_threshold = threshold  # type: ignore[union-attr]

    shared = picture.float() / 255  # what torchvision takes

    @torch.inference_mode()
    def theirs() -> int:
        return len(reference([shared])[0]["scores"])

    sides: dict[Any, Callable[[], Any]] = {"torchvision": theirs}
    sides |= {way: lambda detector=detector: detector.predict(picture) for way, detector in loaded.items()}
    first, found = {}, {}
    for side, run in sides.items():  # compiles
        start = time.perf_counter()
        found[side] = run()
        first[side] = time.perf_counter() - start
    milliseconds = interleaved_ms(sides, rounds)
    rows = []
    for way in ways:
        ratio, bar = milliseconds[way] / milliseconds["torchvision"], BARS[name].get(way[0])
        bar = bar if way[1] == "compiled" else None
        rows.append(
            {
                "model": name,
                "precision": way[0],
                "runtime": way[1],
                "median_ms": milliseconds[way],
                "torchvision_ms": milliseconds["torchvision"],
                "ratio": ratio,
                "bar": bar,
                "above_bar": bar is not None and ratio > bar,
                "first_image_s": first[way],
                "detections": len(found[way]),
                "torchvision_detections": found["torchvision"],
                "off_eager": difference(found[way], found["fp32", "eager"]),
            }
        )
    return rows


def bf16_instructions() -> list[str]:
    """What the processor multiplies bfloat16 with, as far as the system tells: AMX's tiles, AVX-512's vectors."""
    told = Path("/proc/cpuinfo")
    known = set(told.read_text().split()) if told.is_file() else set()
    return sorted(known & {"amx_bf16", "avx512_bf16"})


def picture_of_blobs() -> Tensor:
    """Smooth colours, as in a photograph: uint8 [3, 480, 640]."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, 15, 20)
    return (nn.functional.interpolate(coarse, size=(480, 640), mode="bicubic")[0].clamp(0, 1) * 255).byte()


def random_reference(name: str, picture: Tensor) -> Any:
    """torchvision's detector with random weights whose outputs on the picture vary as a trained model's do."""
    torch.manual_seed(0)
    model = get_model(name, weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1).eval()
    image = picture.float() / 255
    measure_norms(model, [image, 1 - image, torch.rand(3, 480, 640), image.flip(1)])
    spread = next(layers for family, layers in SPREAD.items() if name.startswith(family))
    for layer, std in spread.items():
        scale_output(model, model.get_submodule(layer), std, image)
    return model


@torch.no_grad()
def measure_norms(model: nn.Module, images: list[Tensor]) -> None:
    """Give batch norms the statistics of the images, so that signals neither die nor explode: in place."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    if norms:
        model(images)
    for norm in norms:
        norm.eval()


@torch.no_grad()
def scale_output(model: nn.Module, layer: Any, std: float, image: Tensor) -> None:
    """Scale the weights of a layer, or of the last layers of a list, so that what they say of the image has `std`."""
    parts = [layer]
    if hasattr(layer, "module_list"):
        parts = [one[-1] if isinstance(one, nn.Sequential) else one for one in layer.module_list]
    outputs: dict[nn.Module, list[Tensor]] = {part: [] for part in parts}
    hooks = [part.register_forward_hook(lambda part, _, output: outputs[part].append(output)) for part in parts]
    model([image])
    for hook in hooks:
        hook.remove()
    for part in parts:
        part.weight.mul_(std / torch.cat([output.flatten() for output in outputs[part]]).std())


@torch.inference_mode()
def score_threshold(loaded: LoadedDetector, picture: Tensor) -> float:
    """What so many pairs of box and class as CANDIDATES score more than."""
    scores: list[Tensor] = []
    postprocess: Any = loaded.detector.postprocess
    hook = postprocess.register_forward_pre_hook(lambda _, inputs: scores.append(inputs[1][0].flatten()))
    loaded.predict(picture)
    hook.remove()
    return float(scores[0].sort(descending=True).values[CANDIDATES])


def difference(found: Detections, expected: Detections) -> dict[str, float] | None:
    """How far scores and boxes (in pixels) are off at most; None where the numbers of detections differ."""
    if len(found) != len(expected):
        return None
    return {
        "scores": float((found.scores - expected.scores).abs().max()),
        "boxes": float((found.boxes - expected.boxes).abs().max()),
    }


if __name__ == "__main__":
    main()
