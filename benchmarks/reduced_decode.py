"""What decoding JPEGs at a part of their sides saves, and what it costs: time and AP of one detector, both ways.

python benchmarks/reduced_decode.py CHECKPOINT --root VOC_FOLDER   writes benchmarks/results/reduced_decode.json

The detector is evaluated with preprocess.decode of full and of reduced, on the files as they are and on copies enlarged
to the size of a photograph from a telephone. The time is that of decoding and resizing, in turn, in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detkit.checkpoint.build import build_from_checkpoint  # noqa: E402
from detkit.core.distributed import World  # noqa: E402
from detkit.core.environment import describe_environment  # noqa: E402
from detkit.data.annotations import Annotations, PackedStrings  # noqa: E402
from detkit.data.formats.voc.voc import read_voc  # noqa: E402
from detkit.data.split import Split  # noqa: E402
from detkit.evaluate.validate import validate  # noqa: E402
from detkit.image.preprocess import Preprocess  # noqa: E402
from detkit.infer.detect import evaluation_loader, place_for_inference  # noqa: E402
from detkit.infer.execution import Execution  # noqa: E402
from detkit.infer.open_checkpoint import load_checkpoint  # noqa: E402
from detkit.model.detector import Detector  # noqa: E402
from detkit.profiling.timing import interleaved_ms  # noqa: E402
from detkit.task.base import task_of  # noqa: E402

DECODES = ("full", "reduced")
CPU = torch.device("cpu")


def main() -> None:
    """Print and write the table that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="a folder in VOC layout")
    parser.add_argument("--split", default="test")
    parser.add_argument("--long-side", type=int, default=4000, help="of the enlarged copies, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    saved = load_checkpoint(options.checkpoint)
    detector = place_for_inference(build_from_checkpoint(saved), Execution(CPU))
    annotations = read_voc(options.root, options.split, saved.classes)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            {"files": name, "long_side": int(split.sizes.max()), **compare(detector, split, options.rounds)}
            for name, split in (
                ("as they are", annotations),
                ("enlarged", enlarged(annotations, options.long_side, Path(folder))),
            )
        ]
    result = {
        "what": "decoding and resizing of one JPEG, ms, median over images of medians over rounds; VOC area mAP@0.5",
        "data": annotations.source,
        "detector": saved.name,
        "preprocess": detector.preprocess.to_dict(),
        "rounds": options.rounds,
        "results": rows,
        "environment": describe_environment(CPU),
    }
    path = ROOT / "benchmarks" / "results" / "reduced_decode.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        sides = ", ".join(f"{decode} {row[decode]['ms']:.1f} ms, mAP {row[decode]['mAP']:.2f}" for decode in DECODES)
        print(f"{row['files']}, long side up to {row['long_side']}: {sides}")


def compare(detector: Detector, annotations: Annotations, rounds: int) -> dict[str, Any]:
    """Per kind of decoding: "mAP" in percent, and "ms"."""
    ways = {decode: replace(detector.preprocess, decode=decode) for decode in DECODES}
    found: dict[str, Any] = {}
    for decode, preprocess in ways.items():
        loader = evaluation_loader(
            task_of(detector), Split(annotations), preprocess, World(0, 1, CPU), batch_size=4, num_workers=0
        )
        metrics, _ = validate(detector, loader, World(0, 1, CPU), Execution(CPU))
        found[decode] = {"mAP": 100 * metrics["voc"]["mAP_area"]}
    times = [
        interleaved_ms({decode: partial(load, preprocess, path) for decode, preprocess in ways.items()}, rounds)
        for path in annotations.image_paths
    ]
    for decode in DECODES:
        found[decode]["ms"] = statistics.median(row[decode] for row in times)
    return found


def load(preprocess: Preprocess, path: str) -> np.ndarray:
    """What the detector sees of a file."""
    return preprocess(*preprocess.read(path))


def enlarged(annotations: Annotations, long_side: int, folder: Path) -> Annotations:
    """Copies of the pictures of which the long side has so many pixels, with their objects."""
    paths, scales = [], []
    for index, path in enumerate(annotations.image_paths):
        with Image.open(path) as image:
            scales.append(long_side / max(image.size))
            size = (round(image.width * scales[-1]), round(image.height * scales[-1]))
            paths.append(str(folder / f"{index}.jpg"))
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    scale = np.array(scales, np.float32)
    return replace(
        annotations,
        image_paths=PackedStrings.from_list(paths),
        sizes=np.round(annotations.sizes * scale[:, None]).astype(annotations.sizes.dtype),
        boxes=annotations.boxes * scale[annotations.image_of_object()][:, None],
    )


if __name__ == "__main__":
    main()
