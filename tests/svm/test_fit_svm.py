"""SVMs and box regressors on a trained R-CNN: which samples they see, that they work, and the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_detector import ROOT
from hydra import compose, initialize_config_dir
from noise_voc import write_voc
from omegaconf import DictConfig
from torchvision.ops import box_iou

import detkit
from detkit.core.errors import UserError
from detkit.core.structures import Target
from detkit.evaluate.evaluate import run_eval
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.model.predictor import SVMPredictor
from detkit.ops.coder import decode, encode
from detkit.svm.fit_svm import fit_svm
from detkit.svm.hard_negatives import SVMSettings
from detkit.svm.region_stream import ImageRegions
from detkit.svm.svm_passes import fit_boxes_and_svms
from detkit.train.train import train

FEATURES = 6


class Images:
    """Images whose features say what a region overlaps: of class 0, of class 1, and where its nearest object is."""

    def __init__(self, count: int) -> None:
        torch.manual_seed(0)
        self.mixing = torch.linalg.qr(torch.randn(FEATURES, FEATURES)).Q
        self.asked: list[tuple[str, Any]] = []
        self.images = [self.image(index) for index in range(count)]

    def image(self, index: int) -> tuple[Target, torch.Tensor]:
        corner = torch.tensor([[0.0, 0], [50, 0], [0, 50]]) + 10 * torch.rand(3, 2)
        boxes = torch.cat([corner, corner + 20 + 15 * torch.rand(3, 2)], dim=1)[: 0 if index == 3 else 3]
        target: Target = {
            "boxes": boxes,
            "labels": torch.tensor([0, 1, 1])[: len(boxes)],
            "difficult": torch.tensor([False, False, True])[: len(boxes)],
        }
        near = boxes.repeat(12, 1) + 10 * torch.rand(12 * len(boxes), 4) - 5
        corner = torch.rand(60, 2) * 70
        return target, torch.cat([near, torch.cat([corner, corner + 10 + 20 * torch.rand(60, 2)], dim=1)])

    def __call__(self, *, description: str, most: dict[int, int] | None) -> Iterator[ImageRegions]:
        self.asked.append((description, most))
        for index, (target, proposals) in enumerate(self.images):
            if most is not None:
                proposals = proposals[: most.get(index, 0)]
            boxes = torch.cat([proposals, target["boxes"][~target["difficult"]]])
            yield ImageRegions(boxes, self.features(boxes, target), len(proposals), target)

    def features(self, boxes: torch.Tensor, target: Target) -> torch.Tensor:
        described = torch.zeros(len(boxes), FEATURES)
        if len(target["boxes"]):
            iou = box_iou(boxes, target["boxes"])
            for label in (0, 1):
                described[:, label] = iou[:, target["labels"] == label].amax(dim=1)
            owner = target["boxes"][iou.argmax(dim=1)]
            size = boxes[:, 2:] - boxes[:, :2]
            described[:, 2:4] = ((owner[:, :2] + owner[:, 2:]) - (boxes[:, :2] + boxes[:, 2:])) / 2 / size
            described[:, 4:] = ((owner[:, 2:] - owner[:, :2]) / size).log()
        return torch.cat([described @ self.mixing, described @ self.mixing.T], dim=1)


def fit(images: Images, **changes: Any) -> tuple[SVMPredictor, list[dict[str, int]]]:
    settings: dict[str, Any] = {
        "num_images": len(images.images), "num_classes": 3, "split": (FEATURES, FEATURES), "svm": SVMSettings(),
        "feature_norm": 20.0, "negative_iou": 0.3, "box_iou": 0.6, "penalty": 0.01,
    }  # fmt: skip
    fitted, samples = fit_boxes_and_svms(images, **settings | changes)
    predictor = SVMPredictor(in_features=2 * FEATURES, num_classes=3, box_features=FEATURES)
    predictor.load_state_dict(fitted)
    return predictor, samples


def test_objects_win_and_boxes_come_nearer() -> None:
    images = Images(12)
    predictor, samples = fit(images)
    assert [description for description, _ in images.asked] == ["objects", "regions"]
    assert [known["objects"] for known in samples] == [11, 11, 0]  # one image is empty, difficult ones do not count
    for regions in images(description="test", most=None):
        margins, deltas = predictor(regions.features)
        scores = predictor.scores(margins)
        assert not scores[:, 2].any()  # of a class without objects nothing is found
        gt_boxes, labels = regions.target["boxes"], regions.target["labels"]
        for label in (0, 1) if len(labels) else ():
            iou = box_iou(regions.boxes, gt_boxes[labels == label]).amax(dim=1)
            assert margins[iou > 0.9, label].min() > margins[iou < 0.3, label].max()
        if len(labels):
            near = box_iou(regions.boxes, gt_boxes[:1]).flatten() >= 0.6
            moved = decode(deltas[near, 0], regions.boxes[near])
            assert box_iou(moved, gt_boxes[:1]).mean() > 0.98


def test_features_of_proposals_get_the_wanted_mean_norm() -> None:
    images = Images(3)
    seen: list[torch.Tensor] = []
    stream = images.__call__

    class Spy(Images):
        def __call__(self, **options: Any) -> Iterator[ImageRegions]:
            for regions in stream(**options):
                if options["most"] is not None:
                    seen.append(regions.features[: regions.num_proposals, :FEATURES])
                yield regions

    doubled, _ = fit(Spy(3), feature_norm=40.0)
    plain, _ = fit(images, feature_norm=20.0, svm=SVMSettings(cost=4e-3, bias_feature=5.0))
    assert torch.cat(seen).norm(dim=1).mean() > 0
    # twice the features and twice the bias feature are a quarter of the cost
    assert torch.allclose(doubled.margin.weight, plain.margin.weight, rtol=0.05, atol=0.02)


def test_the_penalty_acts_on_features_of_the_wanted_mean_norm() -> None:
    class Larger(Images):
        def features(self, boxes: torch.Tensor, target: Target) -> torch.Tensor:
            return super().features(boxes, target) * 50

    images = Images(6)
    expected, _ = fit(images, penalty=1000.0)
    larger, _ = fit(Larger(6), penalty=1000.0)
    assert torch.allclose(larger.delta.weight * 50, expected.delta.weight, rtol=1e-4, atol=1e-6)

    # by hand: the examples of class 0 in closed form, on features brought to a mean norm of 20
    sampled = torch.cat([r.features[: r.num_proposals, FEATURES:] for r in images(
        description="", most=dict.fromkeys(range(6), 32))])  # fmt: skip
    scale = 20 / sampled.norm(dim=1).mean()
    rows, targets = [], []
    for regions in images(description="", most=None):
        own = regions.target["boxes"][regions.target["labels"] == 0]
        if len(own):
            near = box_iou(regions.boxes[: regions.num_proposals], own).flatten() >= 0.6
            rows.append(regions.features[: regions.num_proposals, FEATURES:][near])
            targets.append(encode(own.expand(int(near.sum()), 4), regions.boxes[: regions.num_proposals][near]))
    x = torch.cat(rows).double() * scale
    x, y = torch.cat([x, torch.ones(len(x), 1)], dim=1), torch.cat(targets).double()
    weights = torch.linalg.solve(x.T @ x + 1000 * torch.eye(x.shape[1]), x.T @ (y - y.mean(dim=0)))
    assert torch.allclose(expected.delta.weight[:4].double(), weights[:-1].T * scale, atol=1e-5)


def test_without_regressors_boxes_stay() -> None:
    images = Images(4)
    fitted, samples = fit_boxes_and_svms(
        images, num_images=4, num_classes=3, split=(2 * FEATURES, 0), svm=SVMSettings(), feature_norm=20.0,
        negative_iou=0.3, box_iou=0.6, penalty=1000.0,
    )  # fmt: skip
    predictor = SVMPredictor(in_features=2 * FEATURES, num_classes=3)
    predictor.load_state_dict(fitted)
    _, deltas = predictor(torch.randn(5, 2 * FEATURES))
    assert deltas.shape == (5, 1, 4) and not deltas.any() and "box examples" not in samples[0]


def command(verb: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose(
            verb, [*overrides, "device=cpu", "proposal_cache.num_workers=0", "proposal_cache.cache_dir=null"]
        )


@pytest.fixture(scope="module")
def trained(tiny_voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps of a tiny R-CNN."""
    run = tmp_path_factory.mktemp("rcnn")
    train(
        command(
            "train", "model=rcnn_light", "model.box_head.backbone.name=resnet10t",
            "model.box_head.backbone.pretrained=false",
            "model.roi_pool.size=32", "model.roi_pool.context=2", "preprocess.short=40", "preprocess.max=64",
            "proposal.min_side=4", "data=voc", f"data.root={tiny_voc}", f"run_dir={run}", "name=rcnn",
            "loader.num_workers=0", "trainer.budget=2it", "trainer.eval_every=null", "logger.tensorboard=false",
            "evaluation.timing_images=0", "evaluation.pictures=0", "schedule.warmup=1",
        )
    )  # fmt: skip
    return run


@pytest.mark.slow
def test_from_a_run_to_a_checkpoint_like_any_other(trained: Path, tiny_voc: Path, tmp_path: Path) -> None:
    fit_svm(command("fit_svm", f"checkpoint={trained}", f"run_dir={tmp_path / 'svm'}", "num_workers=0", "box.cells=1"))
    counts = json.loads((tmp_path / "svm" / "svm.json").read_text())
    assert counts["dot"]["objects"] == counts["bar"]["objects"] == 6 and counts["bar"]["hard negatives"] > 0
    found = run_eval(
        command(
            "eval", f"checkpoint={tmp_path / 'svm'}", f"run_dir={tmp_path / 'eval'}", "evaluation.num_workers=0",
            "evaluation.timing_images=0", "evaluation.pictures=0", "split=train",
        )
    )  # fmt: skip
    assert found["protocol"]["num_objects"] == 12 and found["voc"]["mAP_area"] > 0
    detections = detkit.load(tmp_path / "svm").predict(next((tiny_voc / "JPEGImages").iterdir()))
    assert len(detections) > 0 and ((detections.scores > 0) & (detections.scores < 1)).all()
    assert (detections.labels.bincount() <= 100).all()
    before, after = load_checkpoint(trained).weights, load_checkpoint(tmp_path / "svm").weights
    kept = [name for name in before if not name.startswith("roi_head.predictor.")]
    assert kept and all(torch.equal(after[name], before[name]) for name in kept)


@pytest.mark.slow
@pytest.mark.parametrize(("difficult", "objects"), [("ignore", 1), ("drop", 1), ("keep", 2)])
def test_difficult_objects_are_what_the_data_say(trained: Path, tmp_path: Path, difficult: str, objects: int) -> None:
    root = write_voc(
        tmp_path / "data", {"a": [("dot", (2, 2, 30, 30), False), ("dot", (20, 20, 40, 40), True)]}, "hard"
    )
    fit_svm(
        command(
            "fit_svm", f"checkpoint={trained}", f"run_dir={tmp_path / 'svm'}", "num_workers=0", "box.cells=0",
            f"data.root={root}", "split=hard", f"data.difficult={difficult}",
        )
    )  # fmt: skip
    assert json.loads((tmp_path / "svm" / "svm.json").read_text())["dot"]["objects"] == objects


def test_svms_are_fitted_not_trained() -> None:
    predictor = SVMPredictor(in_features=4, num_classes=2)
    with pytest.raises(UserError, match="detkit fit_svm"):
        predictor.losses(*predictor(torch.zeros(3, 4)), torch.tensor([-1, 0, 1]), torch.zeros(2, 4))
