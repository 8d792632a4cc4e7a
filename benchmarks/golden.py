"""Hold a change of the code to the bits of before: losses, weights and detections of every model at a fixed seed.

python benchmarks/golden.py            write benchmarks/results/golden.json
python benchmarks/golden.py --check    compare with it; fails at the first family that differs
    --only NAME ...  these models alone        --commit REV  run the code of this commit (in a temporary worktree)

Each model goes through the commands, as a user's would: five training steps on drawn scenes (deterministic, one thread,
seed 0), an evaluation on three images. Kept are the loss terms of every step, a hash of the weights and their averages,
the detections and the accuracies. Floats depend on the processor, so the file names it: run both on one machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "golden.json"
STEPS = 5

SHORT = ["preprocess.short=128", "preprocess.max=192"]
WARP = ["preprocess.height=128", "preprocess.width=128"]
BOX = ["preprocess.size=128"]
RANDOM = ["model.backbone.pretrained=false"]
REGIONS = ["proposal_cache.cache_dir=null", "proposal_cache.num_workers=0"]
FEW = [*REGIONS, "model.proposer.num_proposals=[60,30]"]
# What each model needs to be small here; the weights of the light ones are installed, of the others they are random.
FAMILIES: dict[str, list[str]] = {
    "rcnn_light": [*SHORT, *FEW],
    "fast_rcnn_light": [*SHORT, *REGIONS],
    "faster_rcnn_light": SHORT,
    "rfcn_light": SHORT,
    "ssd_light": WARP,
    "retinanet_light": SHORT,
    "yolo_v1_light": ["preprocess.height=224", "preprocess.width=224"],
    "yolo_v2_light": SHORT,
    "yolo_v3_light": SHORT,
    "yolox_light": SHORT,
    "yolox_nano": BOX,
    "yolox_tiny": BOX,
    "ssdlite": [*RANDOM],
    "rcnn": [*SHORT, *FEW, "model.box_head.backbone.pretrained=false", "model.roi_head.num_samples=8"],
    "fast_rcnn": [*SHORT, *REGIONS, *RANDOM],
    "faster_rcnn": [*SHORT, *RANDOM],
    "faster_rcnn_fpn": [*SHORT, *RANDOM],
    "rfcn": [*SHORT, *RANDOM],
    "ssd300": RANDOM,
    "retinanet": [*SHORT, *RANDOM],
    "fcos": [*SHORT, *RANDOM],
    "yolo_v1": [],
    "yolo_v2": BOX,
    "yolo_v3": BOX,
    "yolox": BOX,
}
# Each also once with what the light models do not have by themselves.
VARIANTS: dict[str, list[str]] = {
    "faster_rcnn_light with averages, accumulation and batch 1": [
        "model=faster_rcnn_light", *SHORT, "trainer.ema=0.9", "trainer.accumulate=2", "loader.batch_size=1",
    ],
    "yolox_light with a mosaic": ["model=yolox_light", "preprocess=letterbox", *BOX, "multi_image=mosaic"],
    "ssd_light with the crops of SSD": ["model=ssd_light", *WARP, "augment=ssd"],
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--commit", metavar="REV")
    given = parser.parse_args()
    runs = {name: [f"model={name}", *overrides] for name, overrides in FAMILIES.items()} | VARIANTS
    if given.only:
        if unknown := set(given.only) - set(runs):
            parser.error(f"no such model: {', '.join(sorted(unknown))}")
        runs = {name: runs[name] for name in given.only}
    before = json.loads(RESULT.read_text()) if RESULT.is_file() else {"runs": {}}
    if given.check and before["cpu"] != cpu():
        print(f"written on {before['cpu']}, this is {cpu()}: differences may come from the processor", file=sys.stderr)
    after: dict[str, Any] = {}
    differ = []
    with source_of(given.commit) as source, tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "scenes"
        detkit(source, ["make_synthetic", f"root={root}", "num_train=10", "num_val=3", "num_test=1", "size=[96,128]"])
        for number, (name, overrides) in enumerate(runs.items()):
            after[name] = trace(source, root, Path(folder) / str(number), overrides)
            said = "written"
            if given.check:
                said = difference(before["runs"].get(name), after[name])
                differ += [name] if said != "equal" else []
            else:
                about = {"cpu": cpu(), "torch": torch.__version__, "steps": STEPS, "threads": 1, "seed": 0}
                RESULT.write_text(json.dumps(about | {"runs": before["runs"] | after}, indent=1) + "\n")
            print(f"{name}: {said}", flush=True)
    if given.check:
        print(f"{len(runs) - len(differ)} of {len(runs)} equal, bit for bit")
        return 1 if differ else 0
    return 0


def trace(source: Path, root: Path, run: Path, overrides: list[str]) -> dict[str, Any]:
    """What a training and its evaluation leave behind, without times."""
    detkit(
        source,
        [
            "train", *overrides, f"hydra.run.dir={run}", "data=voc", f"data.root={root}", "device=cpu", "seed=0",
            f"trainer.budget={STEPS}it", "trainer.eval_every=null", "trainer.deterministic=true",
            *([] if any(word.startswith("loader.batch_size") for word in overrides) else ["loader.batch_size=2"]),
            "loader.num_workers=0", "logger.every=1", "logger.tensorboard=false", "logger.bar=false",
            "evaluation.timing_images=0", "evaluation.pictures=0", "model.postprocess.score_threshold=0.001",
        ],
    )  # fmt: skip
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    saved = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    metrics = json.loads((run / "metrics.json").read_text())
    detections = json.loads((run / "predictions.json").read_text())
    return {
        "losses": [
            {key: value for key, value in row.items() if key.startswith("train/")}
            for row in rows
            if row["phase"] == "train"
        ],
        "weights": digest(saved["model"]),
        "averages": None if saved["ema"] is None else digest(saved["ema"]),
        "detections": len(detections),
        "detections_sha256": hash_of(detections),
        "first_detections": detections[:3],
        "accuracy": {"voc.mAP_area": metrics["voc"]["mAP_area"], "coco.AP": metrics["coco"]["AP"]},
        "accuracy_sha256": hash_of([metrics["voc"], metrics["coco"], metrics["confusion"]]),
    }


def hash_of(plain: Any) -> str:
    """SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def digest(weights: dict[str, torch.Tensor]) -> str:
    """SHA-256 of all values in the order of the modules, whatever these are called."""
    total = hashlib.sha256()
    for tensor in weights.values():
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def difference(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    """ "equal", or the first thing that is not."""
    if before is None:
        return "not in the file"
    for step, (old, new) in enumerate(zip(before["losses"], after["losses"], strict=True), 1):
        if old != new:
            return f"step {step}: {old} is now {new}"
    changed = [key for key in before if before[key] != after[key]]
    return f"differs in {', '.join(changed)}" if changed else "equal"


def detkit(source: Path, words: list[str]) -> None:
    """Run a command of the code in `source` with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(source), "DETKIT_TRACEBACK": "1"}
    command = [sys.executable, str(source / "tools" / f"{words[0]}.py"), *words[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"detkit {' '.join(words)}\n{done.stderr[-4000:]}")


@contextmanager
def source_of(commit: str | None) -> Iterator[Path]:
    """The folder of this code, or of that of a commit."""
    if commit is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], check=True)


def cpu() -> str:
    """The processor and the instructions that PyTorch takes of it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    sys.exit(main())
