"""Hold the state of a training; save it, restore it, evaluate it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from detkit.checkpoint.content import Checkpoint, Position, TrainingState
from detkit.checkpoint.store import bytes_of, copy_checkpoint, save_checkpoint
from detkit.core.disk import check_space
from detkit.core.distributed import World
from detkit.core.interrupt import Agreed, Asked
from detkit.core.plain import Metrics, Settings
from detkit.evaluate.draw_examples import draw_examples
from detkit.evaluate.validate import validate
from detkit.infer.execution import Execution
from detkit.run.budget import Progress
from detkit.run.random_state import get_random_state, seed_everything, set_random_state
from detkit.task.base import AnyTask, select
from detkit.train.batch_stream import BatchStream
from detkit.train.best_score import Best
from detkit.train.log import RunLog, scalars
from detkit.train.prepare import Data, Learner, Plan
from detkit.view.numbers import percent


@dataclass
class State:
    """A training at some step; the first fields stay, the others move on.

    unevaluated: whether an evaluation was due at this step and did not come to its end.
    """

    folder: Path
    settings: Settings
    task: AnyTask
    data: Data
    plan: Plan
    learner: Learner
    world: World
    execution: Execution
    now: Progress
    stream: BatchStream
    best: Best = field(default_factory=Best)
    metrics: Metrics = field(default_factory=dict)
    unevaluated: bool = False

    def go_on_from(self, saved: Checkpoint | None) -> bool:
        """Take up position and random numbers: of the start, or of a checkpoint; whether these are drawn anew."""
        seed, training = self.settings["seed"], None if saved is None else saved.training
        if saved is None or training is None:
            seed_everything(seed + self.world.rank)  # every process samples its own anchors and regions
            return False
        self.best, self.metrics = Best(**training.best), training.metrics
        self.unevaluated = saved.position.unevaluated
        if saved.processes == self.world.size:
            set_random_state(training.rng[self.world.rank])
            return False
        seed_everything(seed + self.world.rank + 1000 * self.now.step)
        return True

    def check_space(self, *, goes_on: bool) -> None:
        """Raise UserError where the disk has no room for the checkpoints."""
        learner = self.learner
        weights = bytes_of(learner.detector.state_dict()) * (1 if learner.ema is None else 2)
        copies = 1 if goes_on else 2  # best.pt and last.pt; later one is there while another is written
        check_space(self.folder, copies * weights, f"{copies} checkpoints" if copies > 1 else "another checkpoint")

    def save(self) -> None:
        """Write checkpoints/last.pt, and best.pt where this is the best; every process calls it."""
        states = self.world.gather(get_random_state())
        if not self.world.is_main:
            return
        learner, annotations = self.learner, self.data.train.annotations
        checkpoint = Checkpoint(
            model=learner.detector.state_dict(),
            ema=None if learner.ema is None else learner.ema.module.state_dict(),
            config=self.settings,
            classes=annotations.classes,
            category_ids=annotations.category_ids,
            preprocess=self.data.preprocess.to_dict(),
            position=Position(
                epoch=self.stream.epoch,
                batch=self.stream.batch,
                step=self.now.step,
                elapsed_s=self.now.seconds,
                unevaluated=self.unevaluated,
            ),
            training=TrainingState(
                optimizer=learner.optimizer.state_dict(),
                scaler=learner.scaler.state_dict(),
                rng=states,
                metrics=self.metrics,
                best=asdict(self.best),
            ),
        )
        last = self.folder / "checkpoints" / "last.pt"
        # the best first, so that after a crash it is never behind last.pt
        if self.data.val_loader is None or self.best.step == self.now.step:
            save_checkpoint(last.with_name("best.pt"), checkpoint)
            copy_checkpoint(last.with_name("best.pt"), last)
        else:
            save_checkpoint(last, checkpoint)

    def evaluate(self, log: RunLog, asked: Asked) -> None:
        """Measure the detector on the validation split, where there is one, and log it."""
        if self.data.val_loader is None or self.data.val is None:
            return
        started, self.unevaluated = time.perf_counter(), True
        self.metrics, results = validate(
            self.learner.averaged, self.data.val_loader, self.world, self.execution, asked=asked
        )
        self.unevaluated = False
        name: str = self.settings["trainer"]["best_metric"]
        score = select(self.metrics, name)
        self.best = self.best.after(score, self.now.step)
        seconds = {"time/val_s": time.perf_counter() - started}
        log.write(
            "val", self.plan.epochs(self.now), self.now, scalars(self.metrics, self.task.metric_names()) | seconds
        )
        log.message(f"step {self.now.step}: {name} {percent(score)}, {self.best.describe()}")
        shown = draw_examples(self.task, results, self.data.val.annotations, log.pictures) if self.world.is_main else ()
        log.draw(shown, self.now)

    def evaluate_and_save(self, log: RunLog, asked: Asked, *, evaluates: bool, saves: bool) -> None:
        """Evaluate and save where that is due; raises Agreed where the training is asked to end, once it is saved."""
        try:
            if evaluates:
                self.evaluate(log, asked)
            if number := self.world.largest(asked.number):
                raise Agreed(number)
        except Agreed:
            self.save()
            self.world.meet()  # until the main process has saved
            raise
        if saves:
            self.save()
