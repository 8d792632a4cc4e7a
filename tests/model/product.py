"""Every model with every option of every group that it has: what came of building it and of a training step."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from scenes import scene, seen

from detkit.config import build_detector, build_preprocess, without_pretrained
from detkit.config_dir import config_dir
from detkit.data.preprocess import Preprocess
from detkit.errors import UserError
from detkit.model.detector import Detector
from detkit.overrides import config_loader, explain, missing, options_of

SIDE = 128  # pixels of the images, where the model has no size of its own
NUM_CLASSES = 2


class Case(NamedTuple):
    """A model with another option of one of its groups, or with its own."""

    model: str
    group: str
    option: str

    @property
    def overrides(self) -> list[str]:
        return [f"model={self.model}", f"{self.group}={self.option}"]


class Outcome(NamedTuple):
    """What came of a case: "built", "refused" or "crashed", why, and in how many seconds."""

    case: Case
    result: str
    reason: str
    seconds: float


def product(loader: ConfigLoaderImpl | None = None) -> Iterator[Case]:
    """Each option of each group of each model; the groups of what is chosen by default in a tail are among them."""
    loader = loader or config_loader(str(config_dir()))
    for model in options_of(loader, "model"):
        choices = loader.load_configuration("train", [f"model={model}"], RunMode.RUN).hydra.runtime.choices
        for key in choices:
            if str(key).startswith("model/") or key == "preprocess":
                for option in options_of(loader, str(key).partition("@")[0]):
                    yield Case(model, str(key), option)


def attempt(case: Case, loader: ConfigLoaderImpl, *, train: bool = True) -> Outcome:
    """Build it with random weights; `train`: take a step on one picture, fold it and predict too."""
    started, reason = time.perf_counter(), ""
    try:
        config = compose(loader, case.overrides)
        detector = build(config, own_size=case.group == "preprocess", meta=not train)
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
        preprocess = small(preprocess)
    with torch.device("meta") if meta else nullcontext():
        return build_detector(model, NUM_CLASSES, preprocess)


def small(preprocess: Preprocess) -> Preprocess:
    """The same for images of SIDE pixels."""
    return preprocess.at(SIDE)


def take_step(detector: Detector) -> None:
    """Offsets measured, one step of SGD on one picture, folded, one prediction; asserts finite losses."""
    torch.manual_seed(0)
    batch = seen(detector, [scene(1, 3)])
    assert batch.targets is not None and batch.proposals is not None
    detector.train().prepare(
        {**target, "proposals": regions}  # type: ignore[typeddict-unknown-key]
        for target, regions in zip(batch.targets, batch.proposals, strict=True)
    )
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=1e-6)
    losses = detector(batch)
    assert losses and all(loss.isfinite() for loss in losses.values()), losses
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    detector.eval().fold()
    with torch.inference_mode():
        (found,) = detector.predict(batch)
    assert found.boxes.shape == (len(found), 4)
