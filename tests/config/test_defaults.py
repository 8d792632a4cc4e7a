"""Defaults stand twice, in the constructor and in the option: where they differ, that is meant, and listed here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import OmegaConf

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# By option, the keys whose value is not that of the constructor: a variant of a part, or what checkpoints without the
# key were trained with, which the constructor has to keep.
DIFFERENT = {
    "augment/crop_color": {"min_visibility"},
    "augment/ssd": {"min_size", "min_visibility"},
    "augment/yolo_v1": {"min_size", "min_visibility"},
    "augment/yolo_v2": {"min_size", "min_visibility"},
    "augment/yolo_v3": {"min_size", "min_visibility"},
    "model/backbone/csp_darknet": {"depth"},
    "model/backbone/darknet19": {"name"},
    "model/backbone/resnet101": {"name"},
    "model/backbone/resnet18": {"name"},
    "model/backbone/yolo_v1": {"name"},
    "model/box_head/dilated_res5": {"first_dilation"},
    "model/box_head/region_vgg": {"stride"},
    "model/proposer/rpn": {"filter_first"},
    "model/roi_head/rcnn": {"num_samples"},
    "model/roi_head/rfcn": {"hard_examples", "num_samples"},
    "model/roi_pool/ps_roi_pool": {"convention"},
    "model/roi_pool/roi_pool": {"convention"},
    "optimizer/adamw": {"weight_decay"},
    "optimizer/sgd": {"decay_bias", "decay_norm", "per_images", "weight_decay"},
    "optimizer/sgd_caffe": {"bias_lr", "per_images", "weight_decay"},
    "preprocess/letterbox_320": {"size"},
    "preprocess/letterbox_640": {"size"},
    "preprocess/short_side": {"pad_multiple"},
    "preprocess/short_side_240": {"max", "pad_multiple", "short"},
    "preprocess/short_side_320": {"max", "pad_multiple", "short"},
    "preprocess/short_side_480": {"max", "pad_multiple", "short"},
    "preprocess/short_side_800": {"max", "pad_multiple", "short"},
    "preprocess/warp_320": {"height", "width"},
    "preprocess/warp_320x416": {"height", "width"},
    "preprocess/warp_448": {"height", "width"},
    "preprocess/warp_512": {"height", "width"},
    "proposal/rpn": {"max_boxes"},
    "schedule/cosine": {"warmup"},
    "schedule/multistep": {"warmup", "warmup_start"},
}


def defaults_of(part: Callable[..., object]) -> dict[str, Any]:
    """The defaults of a constructor or function, those that it hands on to the classes above included."""
    found: dict[str, Any] = {}
    for owner in part.__mro__[:-1] if inspect.isclass(part) else [part]:
        if inspect.isclass(owner) and "__init__" not in vars(owner):
            continue
        for name, parameter in inspect.signature(owner).parameters.items():
            if parameter.default is not parameter.empty:
                found.setdefault(name, parameter.default)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def test_options_say_what_the_constructors_say() -> None:
    different: dict[str, set[str]] = {}
    compared = 0
    for path in sorted(CONFIGS.rglob("*.yaml")):
        config = OmegaConf.load(path)
        if not str(config.get("_target_")).startswith("detkit."):
            continue
        values: Any = OmegaConf.to_container(config)
        for name, default in defaults_of(get_object(config._target_)).items():
            if name not in values or "${" in str(values[name]):
                continue
            compared += 1
            if values[name] != default:
                different.setdefault(path.relative_to(CONFIGS).with_suffix("").as_posix(), set()).add(name)
    assert compared > 200
    assert different == DIFFERENT
