"""A detector small enough to train in a test, and the command that trains it: python fake_detector.py key=value ..."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from detkit.core.structures import Batch, Detections
from detkit.image.preprocess import Preprocess
from detkit.model.detector import Detector

ROOT = Path(__file__).resolve().parents[2]


class FakeDetector(Detector):
    """Learns the mean box of each image. Noise and batch norm make random state and buffers matter.

    poison: the id of an image whose box loss is NaN. Where the environment has FAKE_DIES_IN, the process kills itself
    with SIGKILL in its step of that number; with FAKE_SIGNAL and FAKE_SIGNALLED_IN it sends itself that signal in that
    step, or, if it is 0, in its first prediction.
    """

    stages = ("backbone", "head", "absent")

    def __init__(self, *, num_classes: int, preprocess: Preprocess, poison: str | None) -> None:
        super().__init__(num_classes=num_classes, preprocess=preprocess, mean=(128.0,) * 3, std=(64.0,) * 3)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 4 + num_classes)
        self.poison = poison
        self.steps = 0

    def _output(self, batch: Batch) -> Tensor:
        return self.head(self.backbone(self.normalize(batch)).mean((2, 3)))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        self.steps += 1
        if os.environ.get("FAKE_DIES_IN") == str(self.steps):
            os.kill(os.getpid(), 9)
        self._signal(self.steps)
        output = self._output(batch) + 0.1 * torch.randn(len(batch), 1)
        box = sum((output[:, :4] * 0).sum() for _ in batch.image_ids) / len(batch)
        for row, target in zip(output, batch.targets or (), strict=True):
            if len(target["boxes"]):
                box = box + (row[:4] - target["boxes"].mean(0) / 32).abs().mean()
            if target["image_id"] == self.poison:
                box = box * float("nan")
        return {"box": box, "class": output[:, 4:].square().mean()}

    def _signal(self, step: int) -> None:
        if os.environ.get("FAKE_SIGNALLED_IN") == str(step):
            os.kill(os.getpid(), int(os.environ["FAKE_SIGNAL"]))

    def predict(self, batch: Batch) -> list[Detections]:
        self._signal(0)
        output = self._output(batch)
        found = []
        for row, size in zip(output, batch.original_sizes, strict=True):
            x, y = sorted(row[:2].clamp(0, 0.4).tolist())
            box = torch.tensor([[x, y, x + 0.5, y + 0.5]]) * torch.tensor([size[1], size[0], size[1], size[0]])
            found.append(Detections(box, row[4:].sigmoid().max().view(1), row[4:].argmax().view(1)))
        return found

    def propose(self, batch: Batch) -> list[Tensor]:
        return [torch.tensor([[0.0, 0, size[1], size[0]]]) for size in batch.original_sizes]


def build_fake(*, num_classes: int, preprocess: Preprocess, poison: str | None = None) -> Detector:
    return FakeDetector(num_classes=num_classes, preprocess=preprocess, poison=poison)


def fake_config(root: Path, run_dir: Path, *overrides: str) -> DictConfig:
    """The config of `detkit train` on the data set at `root`, with the fake detector in place of a real one.

    model.* overrides go to the fake.
    """
    mine = [item.removeprefix("model.") for item in overrides if item.startswith("model.")]
    others = [item for item in overrides if not item.startswith("model.")]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose(
            "train",
            [
                "data=voc", f"data.root={root}", f"run_dir={run_dir}", "name=fake", "device=cpu", "preprocess.short=32",
                "preprocess.max=64", "loader.batch_size=2", "loader.num_workers=0", "logger.tensorboard=false",
                "trainer.eval_every=null", "evaluation.timing_images=0", "evaluation.pictures=0", "schedule.warmup=2",
                *others,
            ],
        )  # fmt: skip
    OmegaConf.set_struct(config, False)
    config.model = OmegaConf.from_dotlist(["_target_=fake_detector.build_fake", *mine])
    return config


if __name__ == "__main__":
    from detkit.commands.cli import _report, _user_error
    from detkit.commands.console import logged_to_console
    from detkit.core.interrupt import Interrupted, answered_at_once
    from detkit.train.train import train

    torch.set_num_threads(1)
    try:
        with answered_at_once(), logged_to_console():
            train(fake_config(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
    except Interrupted as end:
        sys.exit(end.exit_code)
    except Exception as problem:
        known = _user_error(problem)
        if known is None:
            raise
        sys.exit(_report(known, problem))
