"""Which of the detectors in a folder of Darknet's .cfg files can be built, and what is said of the others.

python benchmarks/darknet_cfgs.py FOLDER    [--all: also networks without a head section; --unused: keys without effect]

The numbers in docs/weights.md are of the cfg/ folders of pjreddie/darknet and AlexeyAB/darknet, both below one FOLDER.
Every network is built and run without memory (PyTorch's meta device) at its own size, and the test settings of both
programs are worked out. Fails where one is neither built nor refused by a sentence that names the section.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detkit.checkpoint.build import build_detector  # noqa: E402
from detkit.checkpoint.darknet.cfg import line_of_section, read_cfg  # noqa: E402
from detkit.checkpoint.darknet.program import PROGRAMS, testing_of  # noqa: E402
from detkit.checkpoint.darknet.read_darknet import describe_unused  # noqa: E402
from detkit.core.errors import UserError  # noqa: E402
from detkit.core.structures import Batch  # noqa: E402
from detkit.model.darknet.build_layer import HEADS  # noqa: E402
from detkit.model.darknet.classes import count_classes  # noqa: E402
from detkit.model.darknet.section import SectionError  # noqa: E402

BUILDER = "detkit.model.darknet.detector.build_darknet"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--all", action="store_true")
    arguments.add_argument("--unused", action="store_true")
    given = arguments.parse_args()
    counts: Counter[str] = Counter()
    for path in sorted(given.folder.rglob("*.cfg")):
        sections = read_cfg(path)
        if not given.all and not any(name in HEADS for name, _ in sections):
            continue
        kind, said = outcome(path, given.unused)
        counts[kind] += 1
        print(f"{kind:8} {path.relative_to(given.folder)}{': ' if said else ''}{said}", flush=True)
    of = sum(counts.values())
    print(f"{counts['built']} of {of} built, {counts['refused']} refused, {counts['unnamed']} without naming a section")
    return 0 if of and not counts["unnamed"] else 1


def outcome(path: Path, unused: bool) -> tuple[str, str]:
    """(built, refused or unnamed, what is to be said) of a file; a crash is one, with its traceback."""
    try:
        sections = read_cfg(path)
        num_classes = count_classes(sections)
        for program in PROGRAMS:
            testing = testing_of(sections, program)
        model = {"_target_": BUILDER, "_convert_": "all", "sections": [list(one) for one in sections], "revision": 2}
        with torch.device("meta"):
            detector = build_detector({**model, "postprocess": testing.postprocess}, num_classes, testing.preprocess)
            images = torch.zeros(1, 3, *detector.backbone.size)
            detector.dense_head(detector.backbone(images), Batch(images, [], [], []))  # on shapes alone
    except SectionError as error:
        return "refused", f"line {line_of_section(path, error.index)}: {error}"
    except UserError as error:
        return "refused" if re.search(r"\[\w+\]", str(error)) else "unnamed", str(error)
    return "built", describe_unused(detector.backbone) if unused else ""


if __name__ == "__main__":
    sys.exit(main())
