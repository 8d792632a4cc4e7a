"""Every yaml of the data groups that this package reads builds what it names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from detkit.data.augment.transform import Augment
from detkit.image.preprocess import Preprocess

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("path", sorted((CONFIGS / "augment").glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("num_boxes", [0, 40])
def test_augment(path: Path, num_boxes: int) -> None:
    # some read the size of the canvas beside them
    config = OmegaConf.create({"augment": OmegaConf.load(path), "preprocess": {"height": 64, "width": 96, "size": 64}})
    augment = instantiate(config.augment)
    assert isinstance(augment, Augment)
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    corners = generator.uniform(0, 1, (num_boxes, 2, 2)) * [56, 40]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 8], axis=1).astype(np.float32)
    target = {"boxes": boxes, "labels": np.arange(num_boxes), "difficult": np.zeros(num_boxes, bool)}
    for seed in range(30):
        changed, result = augment(image, target, seed)
        height, width = changed.shape[:2]
        assert changed.dtype == np.uint8
        assert len(result["boxes"]) == len(result["labels"]) == len(result["difficult"])
        assert (result["boxes"] >= 0).all()
        assert (result["boxes"] <= np.array([width, height, width, height]) + 1e-3).all()
        assert height * width >= 48 * 64 / 5


@pytest.mark.parametrize("path", sorted((CONFIGS / "preprocess").glob("*.yaml")), ids=lambda path: path.stem)
def test_preprocess(path: Path) -> None:
    assert isinstance(instantiate(OmegaConf.load(path)), Preprocess)


@pytest.mark.parametrize("name", ["voc", "coco", "yolo"])
def test_data(name: str) -> None:
    content = OmegaConf.load(CONFIGS / "data" / f"{name}.yaml")
    assert {
        "name",
        "root",
        "train_split",
        "val_split",
        "test_split",
        "classes",
        "difficult",
        "repair",
        "reader",
    } == set(content)
    assert callable(instantiate(content.reader))
