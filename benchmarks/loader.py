"""Reading and augmenting images: detkit's data set against torchvision's transforms.v2 on the same files, interleaved.

python benchmarks/loader.py [--root VOC_FOLDER --split trainval] [--rounds 7]   writes benchmarks/results/loader.json

Both decode the file, flip it, jitter its colours, cut out a part and resize that to 320 x 320, boxes included, with the
same ranges and probabilities; in one process and one thread, as a loader's worker does. Without --root the files are
scenes drawn for the purpose, JPEGs of 500 x 375.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detkit.core.environment import describe_environment  # noqa: E402
from detkit.data.annotations import Annotations  # noqa: E402
from detkit.data.augment.transform import Augment  # noqa: E402
from detkit.data.dataset import DetectionDataset  # noqa: E402
from detkit.data.decode_cache import DecodedImages  # noqa: E402
from detkit.data.formats.voc.voc import read_voc  # noqa: E402
from detkit.data.synthetic.synthetic import write_synthetic  # noqa: E402
from detkit.image.preprocess import Warp  # noqa: E402
from detkit.image.read import read_image  # noqa: E402

SIDE, BAR = 320, 1.5
JITTER = {"brightness": (0.8, 1.2), "contrast": (0.8, 1.2), "saturation": (0.8, 1.2), "hue": (-0.02, 0.02)}
PART = {"scale": (0.4, 1.0), "ratio": (0.75, 4 / 3)}


def our_loader(annotations: Annotations, decode_cache: Path | None = None) -> Callable[[int], object]:
    """One sample of detkit, by index; decode_cache: as in the config of a training."""
    transforms = [
        albumentations.HorizontalFlip(p=0.5),
        albumentations.ColorJitter(**JITTER, p=0.7),
        albumentations.RandomResizedCrop((SIDE, SIDE), **PART, p=1.0),
    ]
    augment = Augment(transforms=transforms)
    read = read_image if decode_cache is None else DecodedImages(decode_cache)
    dataset = DetectionDataset(annotations, preprocess=Warp(height=SIDE, width=SIDE), augment=augment, read=read)
    return lambda index: dataset[index]


def their_loader(annotations: Annotations) -> Callable[[int], object]:
    """One sample by torchvision: the picture and its boxes as tensors, changed by transforms.v2."""
    change = v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomApply([v2.ColorJitter(**JITTER)], 0.7),
            v2.RandomResizedCrop(SIDE, antialias=True, **PART),
            v2.SanitizeBoundingBoxes(),
        ]
    )

    def sample(index: int) -> Any:
        with Image.open(annotations.image_paths[index]) as image:
            pixels = v2.functional.pil_to_tensor(image.convert("RGB"))
        boxes, labels, _ = annotations.objects(index)
        canvas = (pixels.shape[1], pixels.shape[2])
        target = {
            "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=canvas),
            "labels": torch.from_numpy(labels),
        }
        return change(tv_tensors.Image(pixels), target)

    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, help="a folder in VOC layout")
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root, split = options.root or Path(folder), options.split
        if options.root is None:
            write_synthetic(root / "scenes", num_train=options.images, num_val=1, num_test=1, size=(375, 500))
            root = root / "scenes"
        annotations = read_voc(root, split)
        count = min(options.images, len(annotations))
        sides = {
            "ours": our_loader(annotations),
            "ours, decoded before": our_loader(annotations, Path(folder) / "decoded"),
            "torchvision": their_loader(annotations),
        }
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(options.rounds + 1):  # the first round warms up
            for side, sample in sides.items():
                start = time.perf_counter()
                for index in range(count):
                    sample(index)
                rates[side].append(count / (time.perf_counter() - start))
    medians = {side: statistics.median(column[1:]) for side, column in rates.items()}
    ratio = statistics.median(a / b for a, b in zip(rates["ours"][1:], rates["torchvision"][1:], strict=True))
    result = {
        "what": f"decode, flip, colours, crop and resize to {SIDE} x {SIDE} with boxes, one process, one thread",
        "files": f"{count} images of {options.root.name if options.root else 'drawn scenes, 375 x 500'}",
        "images_per_s": medians,
        "ratio": ratio,
        "bar": BAR,
        "rounds": options.rounds,
        "environment": describe_environment(torch.device("cpu")),
    }
    path = ROOT / "benchmarks" / "results" / "loader.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(", ".join(f"{side}: {rate:.0f} images per second" for side, rate in medians.items()))
    print(f"ours / torchvision: {ratio:.2f}, bar {BAR}")


if __name__ == "__main__":
    main()
