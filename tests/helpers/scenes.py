"""Small scenes that a detector learns in seconds, and what holds for every detector on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from detkit.checkpoint.build import build_from_checkpoint
from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.store import read_checkpoint, save_checkpoint
from detkit.core.structures import Batch, Detections, Target
from detkit.metric.evaluate import evaluate
from detkit.metric.records import GroundTruth, Predictions
from detkit.model.detector import Detector

SIZE = (96, 128)
Scene = tuple[torch.Tensor, Target]


def scene(seed: int, num_objects: int) -> Scene:
    """A noisy picture with bright squares (class 0) and dark ones (class 1) at known places, at most four."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(90, 150, (3, *SIZE), generator=generator, dtype=torch.uint8)
    boxes, labels = [], []
    for index in range(num_objects):
        side = int(torch.randint(20, 36, (1,), generator=generator))
        x, y = 4 + 62 * (index % 2), 4 + 46 * (index // 2)
        labels.append(int(torch.randint(0, 2, (1,), generator=generator)))
        image[:, y : y + side, x : x + side] = 250 if labels[-1] == 0 else 10
        boxes.append([x, y, x + side, y + side])
    target: Target = {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.zeros(num_objects, dtype=torch.bool),
    }
    return image, target


def eight_scenes() -> list[Scene]:
    """What a detector that learns can learn by heart."""
    return [scene(seed, 2 + seed % 3) for seed in range(8)]


def make_batch(scenes: Sequence[Scene]) -> Batch:
    """The scenes as they are, with regions from outside."""
    images = torch.stack([image for image, _ in scenes])
    sizes = [(images.shape[2], images.shape[3])] * len(scenes)
    targets = [target for _, target in scenes]
    regions = [proposals(target) for target in targets]
    return Batch(images, sizes, sizes, [str(i) for i in range(len(scenes))], targets, regions)


def proposals(target: Target) -> torch.Tensor:
    """Regions from outside, for the models that take them: squares all over, and each object a little off."""
    y, x = torch.meshgrid(torch.arange(0, SIZE[0] - 15, 16), torch.arange(0, SIZE[1] - 15, 16), indexing="ij")
    corner = torch.stack([x, y], dim=2).reshape(-1, 2).float()
    squares = [torch.cat([corner, corner + side], dim=1) for side in (16, 32)]
    off = torch.tensor([[-3.0, -2, 2, 1], [4, 1, -1, -2], [1, -4, 3, 2], [-9, 5, -9, 8]])
    return torch.cat([(target["boxes"][:, None] + off).reshape(-1, 4), *squares])


def seen(model: Detector, scenes: Sequence[Scene]) -> Batch:
    """The scenes as the model sees them, by its own preprocess."""
    images, targets, regions = [], [], []
    for image, target in scenes:
        pixels = model.preprocess(image.permute(1, 2, 0).numpy())
        images.append(torch.from_numpy(pixels).permute(2, 0, 1))
        size = (image.shape[1], image.shape[2])
        targets.append({**target, "boxes": model.preprocess.to_input(target["boxes"], size)})
        regions.append(model.preprocess.to_input(proposals(target), size))
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    originals = [(image.shape[1], image.shape[2]) for image, _ in scenes]
    return Batch(torch.stack(images), sizes, originals, [str(i) for i in range(len(scenes))], targets, regions)  # type: ignore[arg-type]


def enlarged(one: Scene, factor: int) -> Scene:
    """A scene with every pixel `factor` times as large."""
    image, target = one
    image = image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    return image, {**target, "boxes": target["boxes"] * factor}


def chatty(model: Detector) -> Detector:
    """The model in eval mode, reporting whatever it has a score for."""
    model.eval().postprocess.score_threshold = 0.0  # type: ignore[union-attr]
    return model


@torch.no_grad()
def opinionated(model: Detector) -> Detector:
    """`chatty`, with scores that differ: norms that have seen a batch, and a head that does not start at its prior."""
    for parameter in model.dense_head.parameters():  # type: ignore[union-attr]
        if parameter.ndim > 1:
            parameter.add_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    model.train().loss(seen(model, [scene(seed, 3) for seed in range(4)]))
    return chatty(model)


def assert_detections(detections: Detections, num_classes: int, size: tuple[int, int] = SIZE) -> None:
    """The contract of every model's output."""
    boxes, scores, labels = detections.boxes, detections.scores, detections.labels
    assert boxes.dtype == scores.dtype == torch.float32 and labels.dtype == torch.int64
    assert boxes.shape == (len(scores), 4) and labels.shape == scores.shape
    assert (boxes[:, :2] < boxes[:, 2:]).all() and (boxes >= 0).all()
    assert (boxes[:, 2] <= size[1]).all() and (boxes[:, 3] <= size[0]).all()
    assert (scores[:-1] >= scores[1:]).all() and (scores > 0).all() and (scores <= 1).all()
    assert ((labels >= 0) & (labels < num_classes)).all()


def assert_same(a: Detections, b: Detections) -> None:
    """Both hold the same detections; where scores tie but for rounding, in any order."""
    assert len(a) == len(b) > 0
    same = (a.boxes[:, None] - b.boxes).abs().amax(dim=2) <= 1e-2
    same &= ((a.scores[:, None] - b.scores).abs() <= 1e-4) & (a.labels[:, None] == b.labels)
    assert same.any(dim=1).all() and same.any(dim=0).all()
    assert torch.allclose(a.scores, b.scores, atol=1e-4)


def assert_batched_is_alone(model: Detector) -> None:
    """The contract of the output, and each of three images the same beside the others as alone."""
    scenes = [scene(0, 3), scene(1, 0), scene(2, 4)]
    with torch.inference_mode():
        together = model.predict(seen(model, scenes))
        alone = [model.predict(seen(model, [one]))[0] for one in scenes]
    for a, b in zip(together, alone, strict=True):
        assert_detections(a, 2)
        assert_same(a, b)


def assert_trains_without_objects(model: Detector) -> None:
    """Losses and gradients of every parameter on images without objects, and with them."""
    model.train()
    for count in (0, 2):
        losses = model(seen(model, [scene(0, count)] * 2))
        assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
        model.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def assert_round_trip(model: Detector, config: Any, path: Path) -> None:
    """A checkpoint of the model, of which `config` is the model config, gives the same detections."""
    model = chatty(model)
    plain = OmegaConf.to_container(config, resolve=True)
    preprocess = model.preprocess.to_dict()
    written = Checkpoint(model=model.state_dict(), config={"model": plain}, classes=["a", "b"], preprocess=preprocess)
    save_checkpoint(path, written)
    again = chatty(build_from_checkpoint(read_checkpoint(path)))
    batch = seen(model, [scene(0, 3)])
    with torch.inference_mode():
        a, b = model.predict(batch)[0], again.predict(batch)[0]
    assert torch.equal(a.boxes, b.boxes) and torch.equal(a.scores, b.scores)


def overfit(model: Detector, scenes: list[Scene], *, steps: int, lr: float) -> float:
    """Train on a few scenes and nothing else; returns the AP on them."""
    batch = seen(model, scenes)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=lr)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 10) * (1 - step / steps)
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
    with torch.inference_mode():
        detections = model.eval().predict(batch)
    return average_precision(detections, [target for _, target in scenes])


def average_precision(detections: list[Detections], targets: list[Target]) -> float:
    """VOC area mAP at IoU 0.5 by the project's evaluator."""
    truth = GroundTruth(
        image=np.repeat(np.arange(len(targets)), [len(target["boxes"]) for target in targets]),
        boxes=torch.cat([target["boxes"] for target in targets]).numpy(),
        labels=torch.cat([target["labels"] for target in targets]).numpy(),
        num_images=len(targets),
    )
    return evaluate(Predictions.from_detections(detections), truth, ["bright", "dark"])["voc"]["mAP_area"]
