"""Every config composes and builds, and names the part that a reader finds under the same path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from detkit.core.structures import Batch
from detkit.model.detector import Detector

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
EXPERIMENTS = sorted(
    path.relative_to(CONFIGS / "experiment").with_suffix("").as_posix()
    for path in (CONFIGS / "experiment").rglob("*.yaml")
)
# where a folder of configs is not named like the module of its parts
ELSEWHERE = {
    "preprocess": ("detkit.image.preprocess.",),
    "multi_image": ("detkit.data.augment.mosaic.",),
    "augment": (
        "detkit.data.augment.transform.",
        "detkit.data.augment.ssd_crop.",
        "detkit.data.augment.darknet_jitter.",
        "detkit.data.augment.hsv.",
        "albumentations.",
    ),
    "optimizer": ("detkit.train.optimizer.", "torch.optim."),
    "schedule": ("detkit.train.schedule.",),
    "model/dense_head": ("detkit.model.dense_head.", "detkit.model.dense."),
    "model/proposer": ("detkit.model.proposer.", "detkit.model.dense."),
    "model": ("detkit.model.",),
    "model/postprocess": ("detkit.model.postprocess.",),
}


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` below a config node."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.relative_to(CONFIGS).as_posix())
def test_a_target_lives_where_its_config_lies(path: Path) -> None:
    group = path.parent.relative_to(CONFIGS).as_posix()
    allowed = ELSEWHERE.get(group, ("detkit." + group.replace("/", ".") + ".",))
    for target in targets(OmegaConf.to_container(OmegaConf.load(path))):
        assert target.startswith(allowed), f"{target} in {group}"


@pytest.mark.parametrize("model", MODELS)
def test_every_model_builds_and_predicts(build: Callable[..., Detector], model: str) -> None:
    detector = build(f"model={model}").eval()
    size = (64, 96)
    canvas = detector.preprocess.geometry(size).size
    if canvas != detector.preprocess.geometry(size[::-1]).size:  # a detector of any canvas sees a small one
        canvas = size
    with torch.inference_mode():
        image, regions = torch.zeros(1, 3, *canvas, dtype=torch.uint8), torch.tensor([[8.0, 8, 40, 40], [0, 0, 96, 64]])
        (found,) = detector.predict(Batch(image, [canvas], [size], ["x"], proposals=[regions]))
    assert found.boxes.shape == (len(found), 4)
    stages = dict(detector.named_modules())
    assert all(stage in stages for stage in detector.stages)


@pytest.mark.parametrize("preprocess", sorted(path.stem for path in (CONFIGS / "preprocess").glob("*.yaml")))
def test_a_mosaic_has_the_side_of_the_preprocess(compose_train: Callable, preprocess: str) -> None:
    config = compose_train("model=yolox_light", f"preprocess={preprocess}", "multi_image=mosaic")
    assert config.multi_image.size == next(value for value in config.preprocess.values() if isinstance(value, int))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_says_how_it_is_run(compose_train: Callable, experiment: str) -> None:
    config = compose_train(f"experiment={experiment}")
    assert config.name == Path(experiment).name
    header = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text().split("defaults:")[0]
    assert "# command: " in header
