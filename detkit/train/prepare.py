"""Prepare a training: data, length, model and optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from detkit.checkpoint.build import build_detector, load_weights, without_pretrained
from detkit.checkpoint.content import Checkpoint
from detkit.config.instantiate import build
from detkit.config.node import Config
from detkit.core.distributed import World, sync_batch_norm
from detkit.core.plain import Settings
from detkit.data.annotations import Annotations
from detkit.data.augment.mosaic import Mosaic
from detkit.data.canvas import CanvasLoader
from detkit.data.dataset import DetectionDataset
from detkit.data.decode_cache import DecodedImages
from detkit.data.loader import build_loader
from detkit.data.split import Split, TrainingSplits
from detkit.image.preprocess import Preprocess
from detkit.image.read import read_image
from detkit.infer.detect import evaluation_loader
from detkit.infer.execution import Execution
from detkit.model.backbone.origin import Origin, record_origins
from detkit.model.detector import Detector
from detkit.model.layers.depthwise import speed_up_depthwise
from detkit.proposal.split_proposals import with_proposals
from detkit.run.budget import Duration, Progress, parse_optional
from detkit.task.base import AnyTask
from detkit.train.ema import Ema
from detkit.train.finetune import Start
from detkit.train.optimizer import restore_optimizer, start_optimizer
from detkit.train.schedule import Schedule


@dataclass(frozen=True)
class Data:
    """What a training reads.

    final: the split of the result, without its proposals, which are found when it is measured. mix: makes one image of
    several. cache: of decoded images, where there is one.
    """

    splits: TrainingSplits
    train: Split
    val: Split | None
    preprocess: Preprocess
    mix: Mosaic | None
    cache: DecodedImages | None
    dataset: DetectionDataset
    loader: DataLoader[object]
    val_loader: CanvasLoader | None

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes, by label."""
        return self.train.annotations.classes

    @property
    def final(self) -> Annotations | None:
        """The split of the result: test, or val where there is no test."""
        return self.splits.final


def prepare_data(config: Config, settings: Settings, task: AnyTask, world: World) -> Data:
    """Read the splits of a training, find the proposals of those that it learns from, and make their loaders.

    settings: the config as plain values. Raises UserError for what the data get wrong.
    """
    with world.main_first():
        splits = task.read_training_splits(config.data)  # all of them now: a fault in one must not end the training
        source = build(settings.get("proposal"), "proposal")  # of regions, for models that take them from outside
        train = with_proposals(splits.train, source, repair=config.data.repair, **config.proposal_cache)
    preprocess = build(settings["preprocess"], "preprocess")
    cache = None if config.decode_cache is None else DecodedImages(config.decode_cache)
    mix = build(config.get("multi_image"), "multi_image")
    dataset = task.dataset(
        train.annotations,
        preprocess=preprocess,
        mix=mix,
        augment=build(config.augment, "augment"),
        difficult=config.data.difficult,
        repair=config.data.repair,
        seed=config.seed,
        proposals=train.proposals,
        read=cache or read_image,
    )
    loader = build_loader(
        dataset,
        shuffle=True,
        seed=config.seed,
        rank=world.rank,
        world_size=world.size,
        pin_memory=world.device.type == "cuda",
        persistent=True,
        **config.loader,
    )
    val = val_loader = None
    if splits.val is not None:
        with world.main_first():
            val = with_proposals(splits.val, source, repair=config.data.repair, **config.proposal_cache)
        val_loader = evaluation_loader(
            task,
            val,
            preprocess,
            world,
            batch_size=config.evaluation.batch_size,
            num_workers=config.evaluation.num_workers,
            read=cache or read_image,
        )
    return Data(splits, train, val, preprocess, mix, cache, dataset, loader, val_loader)


@dataclass(frozen=True)
class Plan:
    """How long a training is, how often it evaluates and saves, and where it begins.

    ahead: how many steps of the present size the epochs done are more than the steps done. epoch, batch: the position
    in the data.
    """

    budget: Duration
    eval_every: Duration | None
    save_every: Duration | None
    steps_per_epoch: Fraction
    ahead: Fraction
    start: Progress
    epoch: int
    batch: int

    @property
    def timed(self) -> bool:
        """Whether anything is measured by the clock, on which processes agree."""
        lengths = (self.budget, self.eval_every, self.save_every)
        return any(length is not None and length.timed for length in lengths)

    def epochs(self, now: Progress) -> float:
        """The epochs done."""
        return float((now.step + self.ahead) / self.steps_per_epoch)


def make_plan(trainer: Config, batches: int, saved: Checkpoint | None, position: tuple[int, int]) -> Plan:
    """Plan a training of `batches` an epoch; saved: what it goes on from, position: its epoch and batch there.

    Raises UserError for a length that is none.
    """
    steps_per_epoch = Fraction(batches, trainer.accumulate)
    start = Progress() if saved is None else Progress(saved.position.step, saved.position.elapsed_s)
    epoch, batch = position
    ahead = Fraction(epoch * batches + batch, trainer.accumulate) - start.step
    return Plan(
        budget=Duration.parse(trainer.budget, "trainer.budget", steps_per_epoch, ahead),
        eval_every=parse_optional(trainer.eval_every, "trainer.eval_every", steps_per_epoch, ahead),
        save_every=parse_optional(trainer.save_every, "trainer.save_every", steps_per_epoch, ahead),
        steps_per_epoch=steps_per_epoch,
        ahead=ahead,
        start=start,
        epoch=epoch,
        batch=batch,
    )


@dataclass(frozen=True)
class Learner:
    """What learns, and what changes it.

    model: the detector, as it is run in several processes. origins: of the weights it began from. transferred: what
    came of those of a fine-tuning's checkpoint, for the log. images_per_step: as the factors of a product.
    """

    detector: Detector
    model: nn.Module
    ema: Ema[Detector] | None
    optimizer: Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    origins: Sequence[Origin]
    transferred: str | None
    images_per_step: tuple[int, int, int]

    @property
    def averaged(self) -> Detector:
        """The detector that is evaluated: of the average weights, where they are kept."""
        return self.detector if self.ema is None else self.ema.module


def prepare_learner(
    config: Config,
    settings: Settings,
    data: Data,
    world: World,
    execution: Execution,
    saved: Checkpoint | None,
    start: Start | None,
) -> Learner:
    """Build the detector and its optimizer, with the weights that they begin or go on with.

    Raises UserError where these do not fit.
    """
    trainer = config.trainer
    model_config = settings["model"] if saved is None else without_pretrained(settings["model"])
    with record_origins() as origins:
        detector = build_detector(model_config, len(data.classes), data.preprocess)
    if trainer.sync_batchnorm:
        detector = sync_batch_norm(detector, world)
    execution.place_model(detector)
    if world.device.type == "cpu":
        speed_up_depthwise(detector)
    images_per_step = (config.loader.batch_size, trainer.accumulate, world.size)
    optimizer = start_optimizer(build(config.optimizer, "optimizer"), detector, math.prod(images_per_step))
    schedule = build(config.schedule, "schedule")
    scaler = torch.amp.GradScaler(world.device.type, enabled=trainer.precision == "fp16")
    if saved is None or saved.training is None:
        detector.fit_statistics(data.dataset.iter_targets())
    else:
        load_weights(detector, saved.model)
        restore_optimizer(optimizer, saved.training.optimizer)
        scaler.load_state_dict(saved.training.scaler)
    transferred = None  # after `fit_statistics`, whose results a checkpoint brings for its own classes
    if start is not None and saved is None:
        transferred = start.load_into(
            detector, data.classes, lambda count: build_detector(settings["model"], count, data.preprocess)
        )
    ema = None if trainer.ema is None else Ema(detector, trainer.ema)
    if ema is not None and saved is not None:
        ema.module.load_state_dict(saved.weights)
    if trainer.compile:
        getattr(detector, "backbone", detector).compile()
    model = world.wrap(detector)
    return Learner(detector, model, ema, optimizer, schedule, scaler, origins, transferred, images_per_step)
