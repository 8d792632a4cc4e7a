"""A second task through the seam, without a line in detkit: which classes are in an image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from detkit.commands.cli import main
from detkit.core.structures import Batch
from detkit.data.annotations import Annotations
from detkit.model.detector import Detector
from detkit.task.base import Task


class Presences(dict[int, list[float]]):
    """By the index of an image, how likely it is for each class that it is there; gathers and is what was gathered."""

    def add(self, images: Sequence[int], found: Sequence[Tensor]) -> None:
        self.update(zip(images, (scores.tolist() for scores in found), strict=True))

    def part(self) -> Presences:
        return self

    def merge(self, parts: Sequence[Presences]) -> Presences:
        return Presences(sorted(item for part in parts for item in part.items()))


class PresenceTask(Task[Tensor, Presences]):
    noun, main, columns = "presences", "accuracy", {"accuracy": "accuracy"}

    @contextmanager
    def accumulator(self, model: Any, annotations: Annotations) -> Iterator[Presences]:
        yield Presences()

    def evaluate(self, results: Presences, annotations: Annotations) -> dict[str, Any]:
        there = [set(annotations.objects(image)[1].tolist()) for image in results]
        pairs = zip(there, results.values(), strict=True)
        right = [(score > 0.5) == (label in labels) for labels, scores in pairs for label, score in enumerate(scores)]
        return {"protocol": {"num_images": len(results)}, "presence": {"accuracy": sum(right) / len(right)}}

    def metric_names(self) -> list[str]:
        return ["presence.accuracy"]

    def accuracies(self, metrics: Mapping[str, Any]) -> dict[str, float | None]:
        return {"accuracy": metrics["presence"]["accuracy"]}

    def table(self, metrics: Mapping[str, Any]) -> list[str]:
        return [f"accuracy {metrics['presence']['accuracy']:.3f} on {metrics['protocol']['num_images']} images"]

    def draw_example(self, image: Any, results: Presences, annotations: Annotations, index: int) -> Image.Image:
        return self.draw(image, torch.tensor(results[index]))

    def keep(self, found: Tensor, names: Sequence[str], threshold: float | None, labels: Any) -> list[dict[str, Any]]:
        rows = [{"name": name, "score": score} for name, score in zip(names, found.tolist(), strict=True)]
        return [row for row in rows if row["score"] >= (threshold or 0.0)]

    def rows(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return found

    def draw(self, image: Any, found: Any) -> Image.Image:
        picture = Image.fromarray(image)
        ImageDraw.Draw(picture).text((0, 0), str(found))
        return picture


class PresenceNet(Detector):
    task, stages = "test_second_task.PresenceTask", ("network",)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given, mean=(128.0,) * 3, std=(64.0,) * 3)
        self.network = nn.Sequential(nn.Conv2d(3, 16, 5, stride=4), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.classify = nn.Linear(16, self.num_classes)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        there = torch.zeros(len(batch), self.num_classes)
        for row, target in zip(there, batch.targets or (), strict=True):
            row[target["labels"]] = 1
        scores = self.classify(self.network(self.normalize(batch)))
        return {"presence": nn.functional.binary_cross_entropy_with_logits(scores, there)}

    def predict(self, batch: Batch) -> list[Tensor]:  # type: ignore[override]
        return list(self.classify(self.network(self.normalize(batch))).sigmoid())


def test_it_trains_evaluates_resumes_compares_and_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/presence.yaml").write_text(
        "defaults: [{/preprocess@_global_.preprocess: warp}]\n_target_: test_second_task.PresenceNet\n_partial_: true\n"
    )
    run, data, trust = tmp_path / "run", tmp_path / "set", "trust=[test_second_task]"
    assert main(["make_synthetic", f"root={data}", "num_train=8", "num_val=4", "num_test=2", "size=[64,64]"]) == 0
    training = ["--config-dir", str(tmp_path / "mine"), "model=presence", "data=voc", f"data.root={data}", "device=cpu"]
    training += ["preprocess.height=64", "preprocess.width=64", "trainer.best_metric=presence.accuracy"]
    training += ["loader.num_workers=0", "logger.tensorboard=false", "logger.every=1", "evaluation.timing_images=3"]
    assert main(["train", *training, f"hydra.run.dir={run}", "trainer.budget=4it"]) == 0
    assert main(["train", *training, f"hydra.run.dir={run}", "trainer.budget=8it", f"resume={run}"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss/presence" in row] == list(range(1, 9))
    assert any("val/accuracy" in row for row in rows)
    assert main(["eval", f"checkpoint={run}", f"run_dir={tmp_path / 'eval'}", trust, "device=cpu"]) == 0
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (run, tmp_path / "eval")]
    assert metrics[0]["presence"] == metrics[1]["presence"] and metrics[1]["timing"]["stages_ms"]["network"] > 0
    assert "presence.accuracy" in (tmp_path / "eval/report.html").read_text()
    source = f"source={data / 'JPEGImages'}"
    assert main(["predict", f"checkpoint={run}", source, f"run_dir={tmp_path / 'found'}", trust, "device=cpu"]) == 0
    found = json.loads((tmp_path / "found/predictions.json").read_text())
    assert len(found) == 14 and all(row["score"] >= 0.5 for one in found for row in one["presences"])
    compared = ["compare", f"models=[{run}]", f"run_dir={tmp_path / 'compared'}", trust, "device=cpu"]
    assert main([*compared, "evaluation.timing_images=3", "timing.passes=1"]) == 0
    assert "| accuracy |" in (tmp_path / "compared/compare.md").read_text()
