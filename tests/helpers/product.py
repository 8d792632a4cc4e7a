"""Every model with every option of every group that it has: what came of building it and of a training step."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from random import Random
from typing import NamedTuple

import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from scenes import scene, seen

from detkit.checkpoint.build import build_detector, build_preprocess, without_pretrained
from detkit.config.config_dir import config_dir
from detkit.config.overrides import config_loader, explain, missing, options_of
from detkit.core.errors import UserError
from detkit.model.detector import Detector

SIDE = 128  # pixels of the images, where the model has no size of its own
NUM_CLASSES = 2


class Case(NamedTuple):
    """A model with other options of its groups, as the command line has them: "model/neck=fpn"."""

    model: str
    choices: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([f"model={self.model}", *self.choices])


class Outcome(NamedTuple):
    """What came of a case: "built", "refused" or "crashed", why, and in how many seconds."""

    case: Case
    result: str
    reason: str
    seconds: float


def groups_of(model: str, loader: ConfigLoaderImpl) -> dict[str, list[str]]:
    """The options of each group that a model has, those inside its box head and its preprocess among them."""
    choices = loader.load_configuration("train", [f"model={model}"], RunMode.RUN).hydra.runtime.choices
    keys = [str(key) for key in choices if str(key).startswith("model/") or key == "preprocess"]
    return {key: options_of(loader, key.partition("@")[0]) for key in keys}


def product(loader: ConfigLoaderImpl, models: Sequence[str] | None = None) -> Iterator[Case]:
    """Each option of each group of each model, or of these models."""
    for model in options_of(loader, "model") if models is None else models:
        for key, options in groups_of(model, loader).items():
            for option in options:
                yield Case(model, (f"{key}={option}",))


def pairs(loader: ConfigLoaderImpl, count: int, seed: int) -> Iterator[Case]:
    """`count` models drawn at random, each with options drawn at random of two of its groups."""
    random = Random(seed)
    groups = {model: groups_of(model, loader) for model in options_of(loader, "model")}
    for _ in range(count):
        model = random.choice(sorted(groups))
        keys = random.sample(sorted(groups[model]), 2)
        yield Case(model, tuple(f"{key}={random.choice(groups[model][key])}" for key in keys))


def attempt(case: Case, *, train: bool = True) -> Outcome:
    """Build it with random weights; `train`: take a step on one picture, fold it and predict too."""
    started, reason, loader = time.perf_counter(), "", config_loader(str(config_dir()))
    torch.set_num_threads(1)
    try:
        config = compose(loader, [f"model={case.model}", *case.choices])
        own_size = any(choice.startswith("preprocess=") for choice in case.choices)
        detector = build(config, own_size=own_size, meta=not train)
        if train:
            take_step(detector)
        result = "built"
    except UserError as error:
        result, reason = "refused", str(error)
    except Exception as error:  # what no user should see
        result, reason = "crashed", f"{type(error).__name__}: {error}"
    detector = None
    gc.collect()
    return Outcome(case, result, reason, time.perf_counter() - started)


def compose(loader: ConfigLoaderImpl, overrides: list[str]) -> DictConfig:
    """The config of `detkit train <overrides>`, as that command would refuse it."""
    try:
        config = loader.load_configuration("train", overrides, RunMode.RUN)
    except HydraException as error:
        raise UserError(explain(loader, "train", overrides) or str(error)) from error
    if OmegaConf.missing_keys(config.model):
        raise missing(OmegaConf.create({"model": config.model}))
    return config


def build(config: DictConfig, *, own_size: bool = False, meta: bool = False) -> Detector:
    """The detector, with random weights.

    own_size: for images as large as the preprocess makes them; small ones otherwise, but for models of one size.
    meta: without memory for the weights, where the model can be built so.
    """
    model = without_pretrained(OmegaConf.to_container(config.model, resolve=True))
    preprocess = build_preprocess(OmegaConf.to_container(config.preprocess, resolve=True))  # type: ignore[arg-type]
    fixed = OmegaConf.select(config, "model.dense_head.default_boxes.steps") is not None
    if not own_size and not fixed:
        preprocess = preprocess.at(SIDE)
    with torch.device("meta") if meta else nullcontext():
        return build_detector(model, NUM_CLASSES, preprocess)


def take_step(detector: Detector) -> None:
    """Offsets measured, one step of SGD on one picture, folded, one prediction; asserts finite losses."""
    torch.manual_seed(0)
    batch = seen(detector, [scene(1, 3)])
    assert batch.targets is not None and batch.proposals is not None
    # a few regions on objects and a few beside: an R-CNN runs its whole network on each
    batch.proposals = [torch.cat([regions[:6], regions[12::12]]) for regions in batch.proposals]
    detector.train().fit_statistics(
        {**target, "proposals": regions}  # type: ignore[typeddict-unknown-key]
        for target, regions in zip(batch.targets, batch.proposals, strict=True)
    )
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=1e-6)
    losses = detector(batch)
    assert losses and all(loss.isfinite() for loss in losses.values()), losses
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    detector.eval().fuse_for_inference()
    with torch.inference_mode():
        (found,) = detector.predict(batch)
    assert found.boxes.shape == (len(found), 4)
