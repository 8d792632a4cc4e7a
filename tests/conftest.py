"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from detkit.config import build_detector, build_preprocess, without_pretrained
from detkit.model.detector import Detector

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data: {SHARED_DATA} does not exist")
    return SHARED_DATA


@pytest.fixture(scope="session")
def compose_train() -> Callable[..., DictConfig]:
    """compose_train(*overrides): the config of `detkit train <overrides>`."""

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return compose("train", overrides=list(overrides))

    return composed


@pytest.fixture(scope="session")
def build(compose_train: Callable[..., DictConfig]) -> Callable[..., Detector]:
    """build(*overrides, num_classes=3): the detector that `detkit train <overrides>` starts from, random weights."""

    def built(*overrides: str, num_classes: int = 3) -> Detector:
        config = compose_train(*overrides)
        model = without_pretrained(OmegaConf.to_container(config.model, resolve=True))
        preprocess = build_preprocess(OmegaConf.to_container(config.preprocess, resolve=True))  # type: ignore[arg-type]
        return build_detector(model, num_classes, preprocess)

    return built
