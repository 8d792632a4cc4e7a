"""Run `detkit compare`: train models where needed, evaluate them under one protocol, time them interleaved."""

from __future__ import annotations

import gc
import json
import logging
import os
import traceback
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from detkit.compare.comparison import (
    AnyTask,
    Comparison,
    ComparisonProtocol,
    MeasuredOn,
    Row,
    accuracy_of,
    describe_task,
    relate,
    tables_of,
    write_comparison,
)
from detkit.compare.contender import Contender, compose_contenders
from detkit.compare.merge_multirun import write_sweep
from detkit.compare.protocol import check_one_protocol
from detkit.compare.side_by_side import measure_side_by_side
from detkit.config.hydra_folder import sweep_folder
from detkit.config.node import Config, plain, read_yaml
from detkit.core import __version__
from detkit.core.distributed import choose_device
from detkit.core.environment import describe_environment, device_name
from detkit.core.errors import UserError
from detkit.core.plain import Metrics
from detkit.evaluate.evaluate import run_eval
from detkit.infer.execution import Execution
from detkit.run.own_folder import COMPARISON, own_folder
from detkit.run.run_folder import INCIDENTAL, differences
from detkit.svm.fit_svm import fit_svm
from detkit.train.train import train
from detkit.view.compare_page import write_compare_page

LOGGER = logging.getLogger(__name__)


def run_compare(config: Config) -> Comparison:
    """Compare as `config` (configs/compare.yaml) says, into `config.run_dir`; returns what compare.json holds.

    Trainings that are there already are not repeated, and those that were stopped go on. One that fails leaves its
    error in its row. Raises UserError, before anything is trained, for what the config gets wrong; and at the end
    where all have failed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("compare runs in one process: train under torchrun first, then give models=[the run folders]")
    with own_folder(Path(config.run_dir), COMPARISON) as folder:
        try:
            return _compare(config, folder)
        except KeyboardInterrupt:
            LOGGER.info(f"stopped: the same command with run_dir={folder} goes on")
            raise


def _compare(config: Config, folder: Path) -> Comparison:
    device = choose_device(config.device)
    contenders = compose_contenders(config, folder)
    task = check_one_protocol(contenders)
    for contender in contenders:
        for job in contender.trainings:
            finished_metrics(job)  # raises where another training is in its place
    LOGGER.info(f"should this be stopped: the same command with run_dir={folder} goes on")

    rows: list[Row] = []
    for number, contender in enumerate(contenders, 1):
        LOGGER.info(f"\n[{number}/{len(contenders)}] {contender.name}")
        rows.append(measure_accuracy(contender, task))
    note_other_images(rows)
    trainer = config.trainer
    execution = Execution(device, trainer.precision, trainer.channels_last, config.runtime)
    measure_side_by_side(rows, contenders, config, execution, folder)
    relate(rows, task.main)
    comparison: Comparison = {
        "protocol": describe_protocol(rows, contenders, config, device),
        "task": describe_task(task),
        "rows": rows,
        "environment": describe_environment(device),
    }
    LOGGER.info(f"\n{write_comparison(folder, comparison)}")
    page = write_compare_page(folder, comparison, tables_of(comparison))
    if (sweep := sweep_folder()) is not None:
        page = write_sweep(sweep)
    LOGGER.info(f"written to {page}")
    if all(row["checkpoint"] is None for row in rows):
        raise UserError("nothing could be measured: " + "; ".join(error for row in rows for error in row["errors"]))
    return comparison


def finished_metrics(job: Config) -> Metrics | None:
    """metrics.json of a training that is done, None for one that is not.

    Raises UserError where its folder holds one with other settings.
    """
    folder = Path(job.run_dir)
    if not (folder / "config.yaml").is_file():
        return None
    before = read_yaml(folder / "config.yaml")
    now = plain(job)
    if different := differences(before, now, (*INCIDENTAL, "proposal_cache")):
        raise UserError(
            f"{folder} holds a training with other settings: {', '.join(different)}\n"
            "choose another run_dir, or remove that folder"
        )
    if not (folder / "metrics.json").is_file() or not (folder / "checkpoints" / "best.pt").is_file():
        return None
    metrics: Metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def measure_accuracy(contender: Contender, task: AnyTask) -> Row:
    """The row of a contender, trained where it is not yet: accuracies, errors, and the checkpoint to be timed."""
    row: Row = {"name": contender.name, "overrides": contender.overrides, "seeds": [], "errors": [], "checkpoint": None}
    found: list[Metrics] = []
    for number, job in enumerate(contender.jobs):
        try:
            if contender.fits and not (Path(job.checkpoint) / "checkpoints" / "best.pt").is_file():
                fit_svm(contender.fits[number])
            done = finished_metrics(job) if contender.trainings else None
            metrics = done or (train(job, contender.overrides) if contender.trainings else run_eval(job))
            row["seeds"] += [job.seed] if "seed" in job else []
        except Exception as error:  # the others go on, and what they reach is not lost
            row["errors"].append(_note_error(error, Path(job.run_dir)))
            continue
        finally:
            gc.collect()
        found.append(metrics)
        row["checkpoint"] = row["checkpoint"] or str(job.run_dir if contender.trainings else job.checkpoint)
    row |= accuracy_of(task, found)
    return row


def note_other_images(rows: Sequence[Row]) -> None:
    """Say in a row where its checkpoint brought other images with it than the first one."""
    measured = [row for row in rows if row["protocol"]]
    for row in measured[1:]:
        mine, first = (
            [one["protocol"].get(key) for key in ("split", "num_images", "num_objects")] for one in (row, measured[0])
        )
        if mine != first:
            row["errors"].append(f"measured on {mine[1]} images of {mine[0]}; to measure all alike set data=...")


def _note_error(error: Exception, folder: Path) -> str:
    """One line for the table; the whole goes to error.txt in the folder of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    first = str(error).strip().partition("\n")[0]
    text = f"{folder.name}: {type(error).__name__}: {first}"
    LOGGER.info(f"failed, {text} (see {folder / 'error.txt'})")
    return text


def describe_protocol(
    rows: Sequence[Row], contenders: Sequence[Contender], config: Config, device: torch.device
) -> ComparisonProtocol:
    """What has to be known to read the numbers."""
    trainings = [job for contender in contenders for job in contender.trainings]
    measured: MeasuredOn = next((row["protocol"] for row in rows if row["protocol"]), MeasuredOn())
    return {
        "data": measured.get("split"),
        "num_images": measured.get("num_images"),
        "num_objects": measured.get("num_objects"),
        "num_difficult": measured.get("num_difficult"),
        "difficult": "ignored",
        "budget": sorted({str(job.trainer.budget) for job in trainings}),
        "seeds": sorted({int(job.seed) for job in trainings}),
        "runtime": config.runtime,
        "precision": config.trainer.precision,
        "channels_last": config.trainer.channels_last,
        "batch": 1,
        "warmup": config.evaluation.timing_warmup,
        "passes": config.timing.passes,
        "order": "all models in turn, image by image",
        "device": str(device),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "detkit": __version__,
        "torch": torch.__version__,
        "time": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M UTC}",
    }
