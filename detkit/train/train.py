"""Training a detector: one function, read top to bottom."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from detkit.checkpoint.build import build, build_detector, check_assembly, load_weights, without_pretrained
from detkit.checkpoint.content import Checkpoint, Position, TrainingState
from detkit.checkpoint.store import bytes_of, copy_checkpoint, save_checkpoint
from detkit.config.chosen import chosen_by, chosen_by_command
from detkit.config.hydra_folder import named_by_time
from detkit.config.node import Config, plain
from detkit.config.overrides import loader_of_command
from detkit.core.disk import check_space
from detkit.core.distributed import World, join_world, sync_batch_norm
from detkit.core.interrupt import Agreed, answered_later
from detkit.data.decode_cache import DecodedImages
from detkit.data.loader import build_loader
from detkit.evaluate.draw_examples import draw_examples
from detkit.evaluate.evaluate import measure
from detkit.evaluate.run_report import write_report
from detkit.evaluate.validate import validate
from detkit.image.read import read_image
from detkit.infer.detect import evaluation_loader, place_for_inference, place_model
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.model.backbone.origin import record_origins
from detkit.model.layers.depthwise import speed_up_depthwise
from detkit.proposal.split_proposals import find_proposals
from detkit.run.budget import Duration, Progress, is_due, parse_optional
from detkit.run.own_folder import RUN, own_folder
from detkit.run.random_state import deterministic, get_random_state, seed_everything, set_random_state
from detkit.run.resume import continued, describe_other_processes, position_of
from detkit.run.run_folder import (
    check_same_classes,
    check_same_training,
    find_run,
    headline,
    open_folder,
)
from detkit.task.base import select, task_of
from detkit.train.batch_stream import BatchStream
from detkit.train.best_score import Best, check_metric, check_patience
from detkit.train.ema import Ema
from detkit.train.fault_log import FaultLog
from detkit.train.finetune import Start, find_start
from detkit.train.log import RunLog, Window, scalars
from detkit.train.optimizer import describe_lr, restore_optimizer, set_lr, start_optimizer
from detkit.train.train_step import take_step
from detkit.view.numbers import percent


def train(config: Config, overrides: Sequence[str] | None = None) -> dict[str, Any]:
    """Train the detector that `config` (configs/train.yaml) describes, evaluate it, return what metrics.json holds.

    overrides: that `config` was composed of; None: those of this command.
    Everything it makes is in the run folder, `config.run_dir`. Under torchrun every process calls this.
    Raises UserError for what the config gets wrong, TrainingDiverged where a loss is no longer a number.
    """
    # The run: its folder, and the checkpoint it goes on from.
    run_dir = Path(config.run_dir)
    path, folder = find_run(config.resume, run_dir, any_name=named_by_time(run_dir))
    saved = None if path is None else load_checkpoint(path, trust=config.trust)
    config = config.copy()
    given = chosen_by_command() if overrides is None else chosen_by(loader_of_command(), overrides)
    start = find_start(config, saved, given)
    if path is not None and saved is not None:
        config = continued(config, saved, path, given.places if overrides is None else None)
    goes_on = saved is not None or config.resume is True
    with (
        join_world(config.device) as world,
        deterministic(config.trainer.deterministic),
        own_folder(folder, RUN, world, goes_on=goes_on) as own,
    ):
        try:
            return _train(config, world, saved, start, own)
        except KeyboardInterrupt:
            if world.is_main and (own / "checkpoints" / "last.pt").is_file():
                print(f"stopped; to go on: detkit train resume={own}", file=sys.stderr)
            raise


def _train(
    config: Config,
    world: World,
    saved: Checkpoint | None,
    start: Start | None,
    folder: Path,
) -> dict[str, Any]:
    trainer = config.trainer
    config.run_dir = str(folder)
    settings: dict[str, Any] = plain(config)
    if saved is not None:
        check_same_training(saved, settings, folder)
    task = task_of(check_assembly(settings))  # before the data are read and regions computed
    check_metric(task, trainer.best_metric, "trainer.best_metric")
    check_patience(trainer.patience, evaluates=None not in (config.data.val_split, trainer.eval_every))
    seed_everything(config.seed)

    # The data.
    with world.main_first():
        splits = task.read_training_splits(config.data)  # all of them now: a fault in one must not end the training
        annotations, val_split = splits.train, splits.val
        source = build(settings.get("proposal"), "proposal")  # of regions, for models that take them from outside
        proposals = find_proposals(source, annotations, repair=config.data.repair, **config.proposal_cache)
    classes = annotations.classes
    if saved is not None:
        check_same_classes(saved.classes, classes, folder)
    preprocess = build(settings["preprocess"], "preprocess")
    read = read_image if config.decode_cache is None else DecodedImages(config.decode_cache)
    mix = build(config.get("multi_image"), "multi_image")  # makes one picture of several
    dataset = task.dataset(
        annotations,
        preprocess=preprocess,
        mix=mix,
        augment=build(config.augment, "augment"),
        difficult=config.data.difficult,
        repair=config.data.repair,
        seed=config.seed,
        proposals=proposals,
        read=read,
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
    val_loader = None
    if val_split is not None:
        with world.main_first():
            val_proposals = find_proposals(source, val_split, repair=config.data.repair, **config.proposal_cache)
        val_loader = evaluation_loader(
            task,
            val_split,
            preprocess,
            world,
            batch_size=config.evaluation.batch_size,
            num_workers=config.evaluation.num_workers,
            repair=config.data.repair,
            proposals=val_proposals,
            read=read,
        )

    # How long, and how often.
    steps_per_epoch = Fraction(len(loader), trainer.accumulate)
    now, (epoch, batch) = Progress(), (0, 0) if saved is None else position_of(saved, world.size)
    if saved is not None:
        now = Progress(saved.position.step, saved.position.elapsed_s)
    ahead = Fraction(epoch * len(loader) + batch, trainer.accumulate) - now.step
    budget = Duration.parse(trainer.budget, "trainer.budget", steps_per_epoch, ahead)
    eval_every = parse_optional(trainer.eval_every, "trainer.eval_every", steps_per_epoch, ahead)
    save_every = parse_optional(trainer.save_every, "trainer.save_every", steps_per_epoch, ahead)
    timed = any(duration is not None and duration.timed for duration in (budget, eval_every, save_every))

    # The model, and what changes it.
    model_config = settings["model"] if saved is None else without_pretrained(settings["model"])
    with record_origins() as origins:
        detector = build_detector(model_config, len(classes), preprocess)
    if trainer.sync_batchnorm:
        detector = sync_batch_norm(detector, world)
    place_model(detector, world.device, trainer.channels_last)
    if world.device.type == "cpu":
        speed_up_depthwise(detector)
    per_step = (config.loader.batch_size, trainer.accumulate, world.size)  # images, as a product
    optimizer = start_optimizer(build(config.optimizer, "optimizer"), detector, math.prod(per_step))
    schedule = build(config.schedule, "schedule")
    scaler = torch.amp.GradScaler(world.device.type, enabled=trainer.precision == "fp16")
    if saved is None or saved.training is None:
        detector.fit_statistics(dataset.iter_targets())
    else:
        load_weights(detector, saved.model)
        restore_optimizer(optimizer, saved.training.optimizer)
        scaler.load_state_dict(saved.training.scaler)
    transferred = None  # what came from another training: after `prepare`, whose statistics it brings for its classes
    if start is not None and saved is None:
        transferred = start.load_into(
            detector, classes, lambda count: build_detector(settings["model"], count, preprocess)
        )
    ema = None if trainer.ema is None else Ema(detector, trainer.ema)
    if ema is not None and saved is not None:
        ema.module.load_state_dict(saved.weights)
    averaged = detector if ema is None else ema.module  # what is evaluated
    if trainer.compile:
        getattr(detector, "backbone", detector).compile()
    model = world.wrap(detector)
    forward = {"precision": trainer.precision, "channels_last": trainer.channels_last}

    # Where we are: at the start, or where the checkpoint was written.
    stream, best, metrics, others = BatchStream(loader, epoch, batch), Best(), {}, ""
    unevaluated = False  # whether an evaluation was due at this step and did not come to its end
    if saved is None or saved.training is None:
        seed_everything(config.seed + world.rank)  # every process samples its own anchors and regions
    else:
        best, metrics = Best(**saved.training.best), saved.training.metrics
        unevaluated = saved.position.unevaluated
        if saved.processes == world.size:
            set_random_state(saved.training.rng[world.rank])
        else:
            seed_everything(config.seed + world.rank + 1000 * now.step)
            others = describe_other_processes(saved, world.size, config)
    stream.mixed = mix is not None and budget.passed(now) < mix.until

    def save() -> None:
        states = world.gather(get_random_state())
        if not world.is_main:
            return
        checkpoint = Checkpoint(
            model=detector.state_dict(),
            ema=None if ema is None else ema.module.state_dict(),
            config=settings,
            classes=classes,
            category_ids=annotations.category_ids,
            preprocess=preprocess.to_dict(),
            position=Position(
                epoch=stream.epoch, batch=stream.batch, step=now.step, elapsed_s=now.seconds, unevaluated=unevaluated
            ),
            training=TrainingState(
                optimizer=optimizer.state_dict(),
                scaler=scaler.state_dict(),
                rng=states,
                metrics=metrics,
                best=asdict(best),
            ),
        )
        last = folder / "checkpoints" / "last.pt"
        if val_loader is None or best.step == now.step:  # first, so that after a crash it is never behind last.pt
            save_checkpoint(last.with_name("best.pt"), checkpoint)
            copy_checkpoint(last.with_name("best.pt"), last)
        else:
            save_checkpoint(last, checkpoint)

    if world.is_main:
        weights = bytes_of(detector.state_dict()) * (1 if ema is None else 2)
        copies = 1 if saved is not None else 2  # best.pt and last.pt; later one is there while another is written
        check_space(folder, copies * weights, f"{copies} checkpoints" if copies > 1 else "another checkpoint")
        open_folder(folder, settings, world, origins)
    with answered_later() as asked, RunLog(folder, budget, now, **config.logger, silent=not world.is_main) as log:
        log.message(headline(folder, task.describe(annotations), detector, world, budget, now))
        log.message("\n".join(map(str, origins)))
        log.message(describe_lr(config.optimizer, per_step))
        log.message(splits.describe())
        log.message(others)
        if isinstance(read, DecodedImages):
            log.message(read.need([annotations] if val_split is None else [annotations, val_split]))
        if transferred is not None:
            log.message(transferred)
        window, faults = Window(), FaultLog()

        def evaluate() -> None:
            nonlocal metrics, best, unevaluated
            if val_loader is None or val_split is None:
                return
            started, unevaluated = time.perf_counter(), True
            metrics, results = validate(averaged, val_loader, world, asked=asked, **forward)
            unevaluated = False
            score = select(metrics, trainer.best_metric)
            best = best.after(score, now.step)
            epochs = float((now.step + ahead) / steps_per_epoch)
            seconds = {"time/val_s": time.perf_counter() - started}
            log.write("val", epochs, now, scalars(metrics, task.metric_names()) | seconds)
            log.message(f"step {now.step}: {trainer.best_metric} {percent(score)}, {best.describe()}")
            log.draw(draw_examples(task, results, val_split, log.pictures) if world.is_main else (), now)

        def evaluate_and_save(evaluates: bool, saves: bool) -> None:
            # what is learned is kept, whoever asks the training to end
            try:
                if evaluates:
                    evaluate()
                if number := world.largest(asked.number):
                    raise Agreed(number)
            except Agreed:
                save()
                world.meet()  # until the main process has saved
                raise
            if saves:
                save()

        if unevaluated:
            evaluate_and_save(True, True)
        while budget.passed(now) < 1 and not best.is_stale(trainer.patience):
            if stream.mixed and budget.passed(now) >= mix.until:
                stream.stop_mixing()
                log.message(f"step {now.step}: from here on every image comes alone (multi_image.until={mix.until:g})")

            # One step: an optimizer step on the mean loss of `accumulate` batches.
            started, waited, before = time.perf_counter(), stream.waited, now
            batches = [stream.take() for _ in range(trainer.accumulate)]
            lr = set_lr(optimizer, schedule.factor(budget.passed(now), now.step))
            values = take_step(
                model.train(), optimizer, scaler, batches, world, number=now.step + 1, folder=folder, **forward,
                clip_norm=trainer.clip_norm,
            )  # fmt: skip
            if ema is not None:
                ema.update(now.step + 1)
            seconds = time.perf_counter() - started
            now = Progress(now.step + 1, now.seconds + seconds)
            if timed:
                now = world.broadcast(now)

            # What is told of it.
            faults.add(batches)
            images = sum(len(batch) for batch in batches) * world.size
            window.add(values, images=images, seconds=seconds, waited=stream.waited - waited)
            epochs, ended = float((now.step + ahead) / steps_per_epoch), budget.passed(now) >= 1
            log.show(epochs, now, window.means())
            if ended or now.step % log.every == 0:
                log.write(
                    "train",
                    epochs,
                    now,
                    world.mean(window.means()) | {"train/lr": lr, "train/mixed": int(stream.mixed)},
                )
                window.clear()

            # What is done from time to time.
            evaluates = ended or is_due(eval_every, before, now)
            evaluate_and_save(evaluates, evaluates or is_due(save_every, before, now))
        log.message(FaultLog.union(world.gather(faults)).describe())

    # The result: the best weights on the test split, or on the validation split where there is none.
    if splits.final is None:
        if world.is_main:
            print(f"no split to evaluate on; see {write_report(folder, task)}")
        return {}
    final = build_detector(without_pretrained(settings["model"]), len(classes), preprocess)
    final.load_state_dict(world.broadcast(load_checkpoint(folder).weights if world.is_main else {}))
    with world.main_first():
        test_proposals = find_proposals(source, splits.final, repair=config.data.repair, **config.proposal_cache)
    measured = measure(
        place_for_inference(final, world.device, trainer.channels_last),
        splits.final,
        world,
        folder,
        proposals=test_proposals,
        source=source,
        repair=config.data.repair,
        about={"checkpoint": str(folder / "checkpoints" / "best.pt"), "step": best.step or now.step},
        **forward,
        **config.evaluation,
    )
    if val_split is not None:
        value = best.value if math.isfinite(best.value) else None
        measured["validation"] = {"metric": trainer.best_metric, "value": value, "step": best.step}
    return measured
