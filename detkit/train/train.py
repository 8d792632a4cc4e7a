"""Train a model: `train` opens the run, `learn` is the loop, read from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from detkit.checkpoint.build import build_detector, check_assembly, without_pretrained
from detkit.checkpoint.content import Checkpoint
from detkit.config.chosen import chosen_by, chosen_by_command
from detkit.config.hydra_folder import named_by_time
from detkit.config.node import Config, plain
from detkit.config.overrides import loader_of_command
from detkit.core.distributed import World, join_world
from detkit.core.interrupt import Asked, answered_later
from detkit.core.plain import Metrics
from detkit.evaluate.evaluate import measure
from detkit.evaluate.run_report import write_report
from detkit.infer.detect import place_for_inference
from detkit.infer.execution import Execution
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.proposal.split_proposals import with_proposals
from detkit.run.budget import Progress, is_due
from detkit.run.own_folder import RUN, own_folder
from detkit.run.random_state import deterministic, seed_everything
from detkit.run.resume import continued, describe_other_processes, position_of
from detkit.run.run_folder import (
    check_same_classes,
    check_same_training,
    find_run,
    headline,
    open_folder,
)
from detkit.task.base import task_of
from detkit.train.batch_stream import BatchStream
from detkit.train.best_score import check_metric, check_patience
from detkit.train.fault_log import FaultLog
from detkit.train.finetune import Start, find_start
from detkit.train.log import RunLog, Window
from detkit.train.optimizer import describe_lr, set_lr
from detkit.train.prepare import make_plan, prepare_data, prepare_learner
from detkit.train.state import State
from detkit.train.train_step import take_step

LOGGER = logging.getLogger(__name__)


def train(config: Config, overrides: Sequence[str] | None = None) -> Metrics:
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
                LOGGER.warning(f"stopped; to go on: detkit train resume={own}")
            raise


def _train(
    config: Config,
    world: World,
    saved: Checkpoint | None,
    start: Start | None,
    folder: Path,
) -> Metrics:
    config.run_dir = str(folder)
    settings = plain(config)
    if saved is not None:
        check_same_training(saved, settings, folder)
    trainer = config.trainer
    task = task_of(check_assembly(settings))  # before the data are read and regions computed
    check_metric(task, trainer.best_metric, "trainer.best_metric")
    check_patience(trainer.patience, evaluates=None not in (config.data.val_split, trainer.eval_every))
    execution = Execution(world.device, trainer.precision, trainer.channels_last)
    seed_everything(config.seed)

    data = prepare_data(config, settings, task, world)
    if saved is not None:
        check_same_classes(saved.classes, data.classes, folder)
    position = (0, 0) if saved is None else position_of(saved, world.size)
    plan = make_plan(trainer, len(data.loader), saved, position)
    learner = prepare_learner(config, settings, data, world, execution, saved, start)
    stream = BatchStream(data.loader, plan.epoch, plan.batch)
    stream.mixed = data.mix is not None and plan.budget.passed(plan.start) < data.mix.until
    state = State(folder, settings, task, data, plan, learner, world, execution, plan.start, stream)
    drawn_anew = state.go_on_from(saved)

    if world.is_main:
        state.check_space(goes_on=saved is not None)
        open_folder(folder, settings, world, learner.origins)
    with (
        answered_later() as asked,
        RunLog(folder, plan.budget, plan.start, **config.logger, silent=not world.is_main) as log,
    ):
        for line in _first_lines(config, state, saved if drawn_anew else None):
            log.message(line)
        learn(config, state, log, asked)
    return _measure_best(config, state)


def learn(config: Config, state: State, log: RunLog, asked: Asked) -> None:
    """Run the loop of a training until its budget is used up, or its patience: steps, evaluations, checkpoints."""
    trainer, plan, learner, world, stream = config.trainer, state.plan, state.learner, state.world, state.stream
    budget, mix = plan.budget, state.data.mix
    window, faults = Window(), FaultLog()
    if state.unevaluated:
        state.evaluate_and_save(log, asked, evaluates=True, saves=True)
    while budget.passed(state.now) < 1 and not state.best.is_stale(trainer.patience):
        if stream.mixed and mix is not None and budget.passed(state.now) >= mix.until:
            stream.stop_mixing()
            log.message(
                f"step {state.now.step}: from here on every image comes alone (multi_image.until={mix.until:g})"
            )

        # One step: an optimizer step on the mean loss of `accumulate` batches.
        started, waited, before = time.perf_counter(), stream.waited, state.now
        batches = [stream.take() for _ in range(trainer.accumulate)]
        lr = set_lr(learner.optimizer, learner.schedule.factor(budget.passed(before), before.step))
        values = take_step(
            learner.model.train(), learner.optimizer, learner.scaler, batches, world, state.execution,
            number=before.step + 1, folder=state.folder, clip_norm=trainer.clip_norm,
        )  # fmt: skip
        if learner.ema is not None:
            learner.ema.update(before.step + 1)
        seconds = time.perf_counter() - started
        now = Progress(before.step + 1, before.seconds + seconds)
        state.now = world.broadcast(now) if plan.timed else now

        # What is told of it.
        faults.add(batches)
        images = sum(len(batch) for batch in batches) * world.size
        window.add(values, images=images, seconds=seconds, waited=stream.waited - waited)
        epochs, ended = plan.epochs(state.now), budget.passed(state.now) >= 1
        log.show(epochs, state.now, window.means())
        if ended or state.now.step % log.every == 0:
            told = world.mean(window.means()) | {"train/lr": lr, "train/mixed": int(stream.mixed)}
            log.write("train", epochs, state.now, told)
            window.clear()

        # What is done from time to time.
        evaluates = ended or is_due(plan.eval_every, before, state.now)
        saves = evaluates or is_due(plan.save_every, before, state.now)
        state.evaluate_and_save(log, asked, evaluates=evaluates, saves=saves)
    log.message(FaultLog.union(world.gather(faults)).describe())


def _first_lines(config: Config, state: State, other_processes: Checkpoint | None) -> Iterator[str]:
    """What is about to happen; other_processes: the checkpoint, where it was saved by another number of them."""
    data, learner, world = state.data, state.learner, state.world
    splits = [split.annotations for split in (data.train, data.val) if split is not None]
    yield headline(state.folder, state.task.describe(splits[0]), learner.detector, world, state.plan.budget, state.now)
    yield "\n".join(map(str, learner.origins))
    yield describe_lr(config.optimizer, learner.images_per_step)
    yield data.splits.describe()
    if other_processes is not None:
        yield describe_other_processes(other_processes, world.size, config)
    if data.cache is not None:
        yield data.cache.need(splits)
    if learner.transferred is not None:
        yield learner.transferred


def _measure_best(config: Config, state: State) -> Metrics:
    """The result: the best weights on the test split, or on the validation split where there is none."""
    data, world, folder, best = state.data, state.world, state.folder, state.best
    if data.final is None:
        if world.is_main:
            LOGGER.info(f"no split to evaluate on; see {write_report(folder, state.task)}")
        return {}
    detector = build_detector(without_pretrained(state.settings["model"]), len(data.classes), data.preprocess)
    detector.load_state_dict(world.broadcast(load_checkpoint(folder).weights if world.is_main else {}))
    with world.main_first():
        split = with_proposals(data.final, data.train.source, repair=data.train.repair, **config.proposal_cache)
    measured = measure(
        place_for_inference(detector, state.execution),
        split,
        world,
        state.execution,
        folder,
        about={"checkpoint": str(folder / "checkpoints" / "best.pt"), "step": best.step or state.now.step},
        **config.evaluation,
    )
    if data.val is not None:
        value = best.value if math.isfinite(best.value) else None
        measured["validation"] = {"metric": config.trainer.best_metric, "value": value, "step": best.step}
    return measured
