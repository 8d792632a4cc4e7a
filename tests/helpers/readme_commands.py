"""The commands that the documents show, and how each is run here: small things in the place of DIR, FILE and RUN."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# Every page for users. The numbers: how many commands each shows that no page before it does, at least.
DOCUMENTS = {
    "README.md": 22,
    "datasets/README.md": 8,
    "CONTRIBUTING.md": 3,
    "docs/architecture.md": 2,
    "docs/export.md": 2,
    "docs/extend.md": 8,
    "docs/lecture.md": 2,
    "docs/results.md": 4,
    "docs/usage.md": 7,
    "docs/weights.md": 4,
}
FIRST_WORDS = (
    "detkit",
    "python",
    "python3",
    "torchrun",
    "make",
    "pip",
    "git",
    "eval",
    "docker",
    "curl",
    "export",
    "bash",
)
# What is shown and not run from here, each with the reason. Whatever else is shown is run.
NOT_RUN = {
    r"git clone .*": "needs the address of a repository",
    r"make \w[\w-]*": "tests/test_project.py looks for the targets; what they run is run here or is these tests",
    r"pip install .*": "installs",
    r"torchrun .*": "tests/e2e/test_two_processes.py",
    r'eval "\$\(detkit .*': "tests/config/test_completion.py",
    r"python datasets/prepare_\w+\.py.*": "downloads; tests/data/test_prepare.py has archives of its own",
    r"python tools/…|python -m detkit": "names of the command",
    r"detkit \w+": "a name of a verb, which must exist",
    r"python benchmarks/.*": "minutes of measuring",
    r"detkit eval predictions=\S* ground_truth=\S*": "a form; tests/doors/test_eval_files.py has its commands",
}
# Pages whose commands belong together, and what runs them.
ELSEWHERE = {"docs/extend.md": "tests/test_extend.py runs the commands of that page, in order"}
# What the documents leave open, filled in.
FILLED = {
    r"data=\.\.\.": "data=voc data.root=DIR",
    r"data=voc\|coco\|yolo": "data=voc",
    r"NAME_bccd": "ssd_bccd",
    r"detkit eval profile=true": "detkit eval checkpoint=RUN profile=true",
    r", …\]": "]",
    r"outputs/train/…": "RUN",
    r"\[(\w[\w.]*=[\w.]+)(?:\|[\w|]*)?\]": r"\1",  # [report=faults.json] [data.repair=clip|drop|error]
}
TRAIN = (
    "trainer.budget=2it trainer.eval_every=null loader.batch_size=2 loader.num_workers=0 evaluation.timing_images=1 "
    "evaluation.timing_warmup=1 evaluation.pictures=1 proposal_cache.num_workers=0 device=cpu"
)
# What makes a command of a verb short; nothing of it changes what the command is about.
SHORT = {
    "train": TRAIN,
    "compare": f"{TRAIN} timing.passes=1",
    "eval": "evaluation.num_workers=0 evaluation.timing_images=1 evaluation.timing_warmup=1 device=cpu",
    "predict": "device=cpu",
    "export": "repeats=1 images=3",
    "propose": "num_workers=0",
    "fit_svm": "num_workers=0 proposal_cache.num_workers=0 device=cpu",
    "make_synthetic": "num_train=2 num_val=1 num_test=1",
}
SLOW = ("compare", "fit_svm", "export", "propose")  # and whatever takes model.onnx, which has to be exported first


class Shown(NamedTuple):
    """A command as a document shows it. answer: the line of output below it, where there is one."""

    document: str
    text: str
    answer: str | None = None

    @property
    def reason(self) -> str | None:
        """Why it is not run here; None where it is."""
        reasons = (why for form, why in NOT_RUN.items() if re.fullmatch(form, self.text))
        return next(reasons, ELSEWHERE.get(self.document))

    @property
    def is_slow(self) -> bool:
        """Whether it takes more than some seconds."""
        return self.arguments[0] in SLOW or "model.onnx" in self.text or "-m" in self.arguments

    @property
    def arguments(self) -> list[str]:
        """What is given to `detkit.commands.cli.main`. Raises ValueError for a command that is of no verb."""
        text = self.text
        for form, filling in FILLED.items():
            text = re.sub(form, filling, text)
        words = shlex.split(text)
        if words[:3] == ["python", "-m", "detkit"]:
            words = words[2:]
        elif words[0] == "python" and (tool := re.fullmatch(r"tools/(\w+)\.py", words[1])):
            words = ["detkit", tool[1], *words[2:]]
        if words[0] != "detkit":
            raise ValueError(f"{self.document}: how is {self.text!r} run here?")
        runs = not {"--help", "--cfg"} & set(words)
        return [*words[1:], *shlex.split(SHORT.get(words[1], "") if runs else "")]


def shown_commands() -> list[Shown]:
    """Every command of the documents, once, in their order."""
    found: dict[str, Shown] = {}
    for document in DOCUMENTS:
        for shown in commands_in((ROOT / document).read_text(encoding="utf-8"), document):
            found.setdefault(shown.text, shown)
    return list(found.values())


def commands_in(text: str, document: str) -> Iterator[Shown]:
    """The commands in the blocks of a document, then those within its lines that have arguments."""
    blocks = re.compile(r"^```(?:\w*)\n(.*?)^```", re.M | re.S)
    for block in blocks.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            command = _plain(line.removeprefix("$ "))
            if command.split(" ")[0] in FIRST_WORDS:
                yield Shown(document, command, after if line.startswith("$ ") and after else None)
    for code in re.findall(r"`([^`]+)`", blocks.sub("", text)):
        command = _plain(code)
        if " " in command and command.split(" ")[0] in FIRST_WORDS:
            yield Shown(document, command)


def _plain(line: str) -> str:
    """A line without its comment, single-spaced."""
    return " ".join(re.sub(r"\s#\s.*", "", line).split())
