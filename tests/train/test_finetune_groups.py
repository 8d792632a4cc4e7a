"""A fine-tuning with each augmentation and each mix: they see the frame of the checkpoint, not that of the defaults."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from detkit.checkpoint.build import build_preprocess
from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.store import save_checkpoint
from detkit.config.chosen import Chosen, chosen_by
from detkit.config.config_dir import config_dir
from detkit.config.instantiate import build
from detkit.config.overrides import config_loader, options_of
from detkit.config.values import check_values
from detkit.core.errors import UserError
from detkit.data.dataset import DetectionDataset
from detkit.data.formats.voc.voc import read_voc
from detkit.data.loader import build_loader
from detkit.train.batch_stream import BatchStream
from detkit.train.finetune import find_start

# One model of each family, and sides that no default has.
SIDES = {"short": 32, "max": 64, "height": 96, "width": 64, "size": 64, "pad_multiple": 32}
FAMILIES = ("faster_rcnn_light", "ssd_light", "yolox_light")  # a short side, a warp and a letterbox
OTHERS = (
    "rcnn_light", "fast_rcnn_light", "rfcn_light", "retinanet_light", "fcos", "yolo_v1_light", "yolo_v2_light",
    "yolo_v3_light",
)  # fmt: skip
LOADER = config_loader(str(config_dir()))
AUGMENTS, MIXES = options_of(LOADER, "augment"), ["null", *options_of(LOADER, "multi_image")]


@pytest.fixture(scope="session")
def checkpoint_of(
    tmp_path_factory: pytest.TempPathFactory, compose_train: Callable[..., DictConfig]
) -> Callable[[str], Path]:
    """checkpoint_of(model): a file with the config of a run at SIDES, which is all that is read here."""

    @cache
    def written(model: str) -> Path:
        config: Any = OmegaConf.to_container(
            compose_train(f"model={model}", f"name={model}", "run_dir=x"), resolve=True
        )
        config["preprocess"] |= {key: side for key, side in SIDES.items() if key in config["preprocess"]}
        path = tmp_path_factory.mktemp(model) / "best.pt"
        save_checkpoint(path, Checkpoint(model={}, config=config, classes=[], preprocess=config["preprocess"]))
        return path

    return written


@pytest.fixture(scope="session")
def composed(compose_train: Callable[..., DictConfig]) -> Callable[[str, str], tuple[DictConfig, Chosen]]:
    """composed(augment, mix): the config of a fine-tuning as Hydra makes it, and what of it was chosen."""

    @cache
    def made(augment: str, mix: str) -> tuple[DictConfig, Chosen]:
        given = [f"augment={augment}", *([] if mix == "null" else [f"multi_image={mix}"])]
        return compose_train(*given, "name=x", "run_dir=x"), chosen_by(LOADER, given)

    return made


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("model", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_what_is_chosen_beside_a_checkpoint_sees_its_frame(
    checkpoint_of: Callable[[str], Path],
    composed: Callable[[str, str], tuple[DictConfig, Chosen]],
    tiny_voc: Path,
    model: str,
    augment: str,
    mix: str,
) -> None:
    made, chosen = composed(augment, mix)
    config = made.copy()
    config.finetune = str(checkpoint_of(model))
    start = find_start(config, None, chosen)
    assert start is not None and not start.changed
    stored = start.checkpoint.preprocess
    if augment == "ssd" and "height" not in stored:  # it makes pictures of the size of a warp
        with pytest.raises(UserError, match=r"'preprocess\.height' not found: choose parts that go together"):
            check_values(config, "train")
        return
    check_values(config, "train")
    settings: Any = OmegaConf.to_container(config, resolve=True)
    assert settings["model"]["_target_"] == start.checkpoint.model_config["_target_"]
    assert settings["preprocess"] == dict(stored)
    side = next(stored[key] for key in ("size", "short", "height") if key in stored)
    if mix != "null":
        assert settings["multi_image"]["size"] == side

    annotations = read_voc(tiny_voc, "train")
    dataset = DetectionDataset(
        annotations,
        preprocess=build_preprocess(settings["preprocess"]),
        augment=build(settings["augment"], "augment"),
        mix=build(settings.get("multi_image"), "multi_image"),
    )
    loader = build_loader(dataset, shuffle=True, seed=0, batch_size=2, num_workers=0)
    batch = BatchStream(loader, mixed=mix != "null").take()
    height, width = batch.images.shape[-2:]
    if "height" in stored:
        assert (height, width) == (96, 64)
    elif "size" in stored:
        assert (height, width) == (64, 64)
    else:
        assert max(height, width) <= 64 and height % 32 == width % 32 == 0
