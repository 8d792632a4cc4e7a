"""Our selective search beside OpenCV's, one core each: seconds per image, boxes, coverage of the objects.

python benchmarks/selective_search.py --root DIR --split val --peer-python VENV/bin/python

--root is a VOC folder. --peer-python is a Python that has opencv-contrib-python-headless: that cannot share an
environment with detkit, as it overwrites the `cv2` that Albumentations wants. Both search each image in turn, ours
first for one image and theirs for the next. Decoding is not timed, nor is compilation (once, then cached).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

# what the other Python runs: a path per line in, seconds and boxes (x, y, w, h, best first) as a line of json out
PEER = """
import ctypes, json, sys, time, cv2
cv2.setNumThreads(1)
print(json.dumps(cv2.__version__), flush=True)
for line in sys.stdin:
    image = cv2.imread(line.rstrip("\\n"))
    ctypes.CDLL(None).srand(0)  # or the order, and so what is best, differs from run to run
    start = time.perf_counter()
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image)
    search.switchToSelectiveSearchFast()
    boxes = search.process()
    print(json.dumps({"seconds": time.perf_counter() - start, "boxes": boxes.tolist()}), flush=True)
"""


class Peer:
    """OpenCV in a process of its own."""

    def __init__(self, python: str) -> None:
        self.process = subprocess.Popen(
            [python, "-c", PEER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.version = self._line()

    def search(self, path: str) -> tuple[float, np.ndarray]:
        """Seconds, and boxes xyxy [P, 4], best first."""
        assert self.process.stdin is not None
        self.process.stdin.write(path + "\n")
        self.process.stdin.flush()
        answer = self._line()
        boxes = np.array(answer["boxes"], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return answer["seconds"], boxes

    def _line(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the other Python ended: does it have opencv-contrib-python-headless?")
        return json.loads(line)


def summary(seconds: list[float], boxes: list[np.ndarray], annotations: Any) -> dict[str, Any]:
    """What is compared of one side."""
    from detkit.data.proposals import Proposals
    from detkit.proposal.report import measure_proposals

    proposals = Proposals.pack(list(annotations.image_ids), boxes, method="", source="")
    report = measure_proposals(proposals, annotations).to_dict()
    last = list(report["by_count"].values())[-1]
    return {
        "seconds_mean": round(float(np.mean(seconds)), 4),
        "seconds_median": round(float(np.median(seconds)), 4),
        "seconds_p95": round(float(np.percentile(seconds, 95)), 4),
        "boxes_per_image": round(report["proposals_per_image"], 1),
        "recall_50": round(last["recall_50"], 4),
        "recall_70": round(last["recall_70"], 4),
        "ABO": round(last["ABO_all_objects"], 4),
        "MABO": round(last["MABO"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "selective_search.json")
    arguments = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT))
    import cv2

    from detkit.data.formats.voc.voc import read_voc
    from detkit.image.read import read_image
    from detkit.proposal.selective_search import SelectiveSearch, selective_search

    cv2.setNumThreads(1)
    settings = SelectiveSearch()
    annotations = read_voc(arguments.root, arguments.split)
    peer = Peer(arguments.peer_python)
    seconds: dict[str, list[float]] = {"detkit": [], "opencv": []}
    boxes: dict[str, list[np.ndarray]] = {"detkit": [], "opencv": []}
    selective_search(np.zeros((32, 32, 3), np.uint8))  # compile
    for number, path in enumerate(annotations.image_paths):
        image = read_image(path)
        for side in ("detkit", "opencv") if number % 2 else ("opencv", "detkit"):
            if side == "opencv":
                spent, found = peer.search(path)
                found = found[(found[:, 2:] - found[:, :2] >= settings.min_side).all(axis=1)][: settings.max_boxes]
            else:
                start = time.perf_counter()
                found = selective_search(image, settings=settings)
                spent = time.perf_counter() - start
            seconds[side].append(spent)
            boxes[side].append(found)
        print(f"\r{number + 1}/{len(annotations)}", end="", file=sys.stderr, flush=True)
    sides = {side: summary(seconds[side], boxes[side], annotations) for side in seconds}
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    result = {
        "environment": {
            "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.processor(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "opencv_contrib": peer.version,
            **{name: version(name) for name in ("numpy", "numba", "opencv-python-headless")},
        },
        "images": len(annotations),
        "cores_of_each": 1,
        "filters": {"min_side": settings.min_side, "max_boxes": settings.max_boxes},
        "opencv": {"mode": "switchToSelectiveSearchFast, defaults", **sides["opencv"]},
        "detkit": {"mode": "selective_search_fast", "settings": settings.parameters(), **sides["detkit"]},
        "times_faster": round(sides["opencv"]["seconds_mean"] / sides["detkit"]["seconds_mean"], 2),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
