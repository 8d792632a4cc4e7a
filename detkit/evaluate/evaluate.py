"""Run `detkit eval`: evaluate a checkpoint, or predictions in files; write tables, plots and a report."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from detkit.box_files.files import evaluate_files
from detkit.checkpoint.build import build_from_checkpoint, build_source, with_inference_settings
from detkit.checkpoint.darknet.program import with_program
from detkit.checkpoint.trust import check_reader
from detkit.config.instantiate import build
from detkit.config.node import Config, is_missing
from detkit.core.distributed import World, join_world
from detkit.core.environment import describe_environment
from detkit.core.errors import UserError
from detkit.core.plain import Metrics, Settings
from detkit.core.suggest import among
from detkit.data.annotations import Annotations
from detkit.data.category_ids import fill_category_ids
from detkit.data.split import Split, describe_reading
from detkit.evaluate.draw_examples import draw_examples, spread
from detkit.evaluate.validate import eval_mode, validate
from detkit.evaluate.write_results import format_table, write_metrics, write_pictures, write_stages
from detkit.infer.detect import evaluation_loader, place_for_inference
from detkit.infer.execution import Execution
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.metric.recall import proposal_recall
from detkit.model.detector import Detector
from detkit.profiling.roofline import profile_detector
from detkit.profiling.speed import FEWEST_IMAGES, Pipeline, TimedImage, measure_speed
from detkit.proposal.split_proposals import with_proposals
from detkit.run.own_folder import EVALUATION, own_folder
from detkit.task.base import AnyTask, task_of
from detkit.task.detection.task import DetectionTask
from detkit.task.detection.truth import ground_truth_of

LOGGER = logging.getLogger(__name__)


def run_eval(config: Config) -> Metrics:
    """Evaluate as `config` (configs/eval.yaml) says, into `config.run_dir`; returns what metrics.json holds.

    Raises UserError for what the config gets wrong, or where checkpoint and data have different classes.
    """
    run_dir = Path(config.run_dir)
    if config.predictions is not None or config.ground_truth is not None:
        return _evaluate_files(config, run_dir)
    if config.boxes is not None or config.images is not None:
        raise UserError("boxes= and images= are of predictions= and ground_truth= in files, not of a checkpoint")
    if config.checkpoint is None:
        raise UserError("add checkpoint=<a .pt file or a run folder>, or predictions=<file> ground_truth=<file>")
    with join_world(config.device) as world, own_folder(run_dir, EVALUATION, world) as folder:
        saved = load_checkpoint(config.checkpoint, trust=config.trust)
        saved = with_program(saved, **config.darknet)
        saved = with_inference_settings(saved, preprocess=config.preprocess, postprocess=config.postprocess)
        execution = Execution(world.device, config.precision, config.channels_last, config.runtime)
        detector = place_for_inference(build_from_checkpoint(saved), execution)
        data = merge_data(config.data, saved.data_config, saved.trust)
        annotations = read_test_split(data, config.split, saved.classes, task_of(detector))
        annotations = fill_category_ids(annotations, saved.category_ids)
        for line in describe_reading(annotations) if world.is_main else ():
            LOGGER.warning(line)
        about: dict[str, object] = {"checkpoint": str(config.checkpoint), "step": saved.step}
        if saved.tested_as is not None:
            about["tested_as"] = saved.tested_as
            if world.is_main:
                LOGGER.warning(saved.tested_as)
        source = build(config.get("proposal"), "proposal") or build_source(saved, for_any_image=False)
        with world.main_first():
            split = with_proposals(annotations, source, repair=data["repair"], **config.proposal_cache)
        return measure(
            detector,
            split,
            world,
            execution,
            folder,
            about=about,
            profile=config.profile,
            **config.evaluation,
        )


def measure(
    detector: Detector,
    split: Split,
    world: World,
    execution: Execution,
    folder: Path,
    *,
    about: Mapping[str, object],
    batch_size: int,
    num_workers: int,
    timing_images: int,
    timing_warmup: int,
    proposal_recall: bool,
    pictures: int,
    profile: bool = False,
) -> Metrics:
    """Accuracy, speed and pictures of a detector on a split: prints the table, fills `folder`, returns the metrics.

    With several processes all call this; the main one writes, and measures the time alone.
    folder gets metrics.json, predictions.json, plots/, pictures/ and report.html. about: goes into the protocol.
    profile: also measure how far the detector is from what the machine can do.
    """
    task, annotations = task_of(detector), split.annotations
    detector.eval()
    loader = evaluation_loader(task, split, detector.preprocess, world, batch_size=batch_size, num_workers=num_workers)
    shown = world.is_main and sys.stderr.isatty()
    with tqdm(total=len(annotations), desc="evaluating", unit="img", disable=not shown, leave=False) as bar:
        metrics, results = validate(
            detector, loader, world, execution, progress=lambda done: bar.update(done * world.size - bar.n)
        )
    if world.is_main:
        metrics["protocol"] |= {"split": annotations.source, **about, "precision": execution.precision}
        metrics["protocol"] |= {"runtime": detector.runtime, "preprocess": detector.preprocess.to_dict()}
        if proposal_recall and hasattr(detector, "propose"):
            metrics["proposals"] = measure_proposals(
                detector, split, execution, batch_size=batch_size, num_workers=num_workers
            )
        images = timed_images(split, timing_images)
        if images:
            metrics["timing"] = measure_speed(detector, images, execution, warmup=timing_warmup)
            if profile:
                pipeline = Pipeline(detector, execution)
                metrics["profile"] = profile_detector(pipeline, images[:FEWEST_IMAGES], metrics["timing"])
        metrics["environment"] = describe_environment(world.device)
        write_metrics(folder, metrics)
        task.write(folder, metrics, results, annotations)
        write_stages(folder, metrics)
        write_pictures(folder, task, draw_examples(task, results, annotations, pictures))
        LOGGER.info(format_table(task, metrics))
        LOGGER.info(f"written to {folder}")
    return world.broadcast(metrics)


@torch.inference_mode()
def measure_proposals(
    detector: Any, split: Split, execution: Execution, *, batch_size: int, num_workers: int
) -> Metrics:
    """Recall of the regions in which a two-stage detector looks, best 100, 300 and 1000, on this process alone."""
    annotations, alone = split.annotations, World(0, 1, execution.device)
    loader = evaluation_loader(
        task_of(detector), split, detector.preprocess, alone, batch_size=batch_size, num_workers=num_workers
    )

    def regions() -> Any:
        waiting: dict[str, Any] = {}  # for those before it: batches come by canvas
        order = list(annotations.image_ids)[::-1]
        for batch in loader:
            with execution.autocast():
                found = detector.propose(execution.place(batch))
            waiting |= zip(batch.image_ids, (boxes.float().cpu() for boxes in found), strict=True)
            while order and order[-1] in waiting:
                yield waiting.pop(order.pop())

    with eval_mode(detector):
        return proposal_recall(regions(), ground_truth_of(annotations), annotations.classes).to_dict()


def timed_images(split: Split, count: int) -> list[TimedImage]:
    """At most `count` images, spread over the split; with their proposals, for a detector that takes them.

    A source that computes them does so again while the detector is timed; of others counts what is recorded with
    them, where it is for all.
    """
    annotations, proposals, source = split.annotations, split.proposals, split.source
    chosen = spread(len(annotations), count)
    if proposals is None:
        return [TimedImage(annotations.image_paths[index]) for index in chosen]
    propose, known = source if callable(source) else None, bool(np.isfinite(proposals.seconds[chosen]).all())
    return [
        TimedImage(
            annotations.image_paths[index],
            torch.from_numpy(proposals.of(index).copy()),
            float(proposals.seconds[index]) if known else None,
            propose,
        )
        for index in chosen
    ]


def read_test_split(data: Settings, split: str | None, classes: Sequence[str], task: AnyTask) -> Annotations:
    """The split to evaluate on: `split`, else data.test_split, else data.val_split.

    Raises UserError where the data has its own class list and it is not that of the model, or where no object of
    the split belongs to a class of the model.
    """
    given = data.get("classes")
    if given is not None and list(given) != list(classes):
        unknown = [name for name in given if name not in classes]
        hint = f"; {unknown[0]!r} is none of them{among(unknown[0], classes)}" if unknown else ""
        raise UserError(f"data.classes={list(given)}, but the model was trained for {list(classes)}{hint}")
    return task.read_test_split(data, split or data["test_split"] or data["val_split"], classes)


def merge_data(given: Settings, saved: Settings, trust: Sequence[str] = ()) -> dict[str, Any]:
    """The data config of the command line, filled up with that of the checkpoint where it is missing (???).

    What is null was chosen to be, on the command line or by a data config. trust: as the checkpoint was loaded with.
    Raises UserError where neither has a reader, and where the checkpoint would run anything but detkit's own.
    """
    chosen = {str(key): given[key] for key in given if not is_missing(given, key)}
    data = dict(saved) | chosen
    if "root" in chosen and "reader" not in chosen and not Path(str(chosen["root"])).expanduser().exists():
        raise UserError(f"data.root={chosen['root']} does not exist (current folder: {Path.cwd()})")
    if data.get("reader") is None:
        raise UserError("this checkpoint says nothing of data: choose data=voc data.root=DIR (or data=coco, data=yolo)")
    if "reader" not in chosen:
        check_reader(data["reader"], trust)
    return data


def _evaluate_files(config: Config, run_dir: Path) -> Metrics:
    if config.predictions is None or config.ground_truth is None or config.checkpoint is not None:
        raise UserError("predictions=... and ground_truth=... go together, and without checkpoint=")
    found = evaluate_files(
        config.predictions, config.ground_truth, boxes=config.boxes, images=config.images, inclusive=config.inclusive
    )
    metrics = {**found, "environment": describe_environment(torch.device("cpu"))}
    with own_folder(run_dir, EVALUATION) as folder:
        write_metrics(folder, metrics)
    LOGGER.info(format_table(DetectionTask(), metrics))
    protocol = found["protocol"]
    LOGGER.info(f"\nboxes={protocol['boxes']} in {config.predictions} and {config.ground_truth}")
    for note in protocol["notes"]:
        LOGGER.info(note)
    LOGGER.info(f"written to {folder}")
    return metrics
