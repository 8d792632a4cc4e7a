"""Training a detector: one function, read top to bottom."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from detkit.config import build, build_detector, build_preprocess
from detkit.data.dataset import DetectionDataset
from detkit.data.loader import build_loader
from detkit.data.split import describe_faults, read_split
from detkit.engine import nan_guard
from detkit.engine.best import Best, select_metric
from detkit.engine.budget import Duration, Progress, is_due, parse_optional
from detkit.engine.checkpoint import copy_checkpoint, load_checkpoint, save_checkpoint
from detkit.engine.detect import autocast, evaluation_loader, place_model, to_device
from detkit.engine.distributed import World, join_world
from detkit.engine.ema import Ema
from detkit.engine.environment import describe_environment
from detkit.engine.log import RunLog, Window
from detkit.engine.optimizer import set_lr
from detkit.engine.random_state import get_random_state, seed_everything, set_deterministic, set_random_state
from detkit.engine.report import format_table, write_report
from detkit.engine.resume import check_same_training, find_run
from detkit.engine.stream import BatchStream
from detkit.engine.validate import validate
from detkit.errors import UserError
from detkit.types import Batch


def train(config: DictConfig) -> dict[str, Any]:
    """Train the detector that `config` (configs/train.yaml) describes, evaluate it, and return what metrics.json holds.

    Everything it makes is in the run folder, `config.run_dir`. Started by torchrun, every process calls this.
    Raises UserError for what the config gets wrong, TrainingDiverged where a loss is no longer a number.
    """
    with join_world(config.device) as world:
        # The run: its folder, and the run it goes on from.
        trainer = config.trainer
        path, folder = world.broadcast(find_run(config.resume, Path(config.run_dir)))
        config.run_dir = str(folder)
        settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        saved = None if path is None else load_checkpoint(path)
        if saved is not None:
            check_same_training(saved["config"], settings, path)
        if world.is_main:
            _open_folder(folder, settings, world)
        if trainer.deterministic:
            set_deterministic()
        seed_everything(config.seed)

        # The data.
        annotations = read_split(config.data, config.data.train_split)
        classes = annotations.classes
        preprocess = build_preprocess(settings["preprocess"])
        dataset = DetectionDataset(
            annotations,
            preprocess=preprocess,
            augment=build(config.augment),
            difficult=config.data.difficult,
            repair=config.data.repair,
            seed=config.seed,
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
        if len(loader) == 0:
            raise UserError(f"{annotations.source} has no images to train on")

        val_loader = None
        if config.data.val_split is not None:
            validation = read_split(config.data, config.data.val_split, classes)
            val_loader = evaluation_loader(
                validation, preprocess, world, **config.evaluation, repair=config.data.repair
            )

        # The model, and what changes it.
        detector = build_detector(settings["model"], len(classes), preprocess)
        place_model(detector, world.device, trainer.channels_last)
        optimizer = build(config.optimizer)(detector)
        schedule = build(config.schedule)
        scaler = torch.amp.GradScaler(world.device.type, enabled=trainer.precision == "fp16")
        if saved is not None:
            detector.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            scaler.load_state_dict(saved["scaler"])
        ema = None if trainer.ema is None else Ema(detector, trainer.ema)
        if ema is not None and saved is not None:
            ema.module.load_state_dict(saved["ema"])
        if trainer.compile:
            getattr(detector, "backbone", detector).compile()
        model = world.wrap(detector)

        # How long, how often, and how far we are.
        steps_per_epoch = Fraction(len(loader), trainer.accumulate)
        budget = Duration.parse(trainer.budget, "trainer.budget", steps_per_epoch)
        eval_every = parse_optional(trainer.eval_every, "trainer.eval_every", steps_per_epoch)
        save_every = parse_optional(trainer.save_every, "trainer.save_every", steps_per_epoch)
        timed = any(duration is not None and duration.timed for duration in (budget, eval_every, save_every))
        now, stream, best, metrics = Progress(), BatchStream(loader), Best(), {}
        if saved is not None:
            position = saved["position"]
            now = Progress(position["step"], position["elapsed_s"])
            stream = BatchStream(loader, position["epoch"], position["batch"])
            best, metrics = Best(**saved["best"]), saved["metrics"]
            _restore_random_state(saved, world)
        else:
            seed_everything(config.seed + world.rank)  # each process samples its own anchors and regions

        averaged = detector if ema is None else ema.module  # what is evaluated
        forward = {"precision": trainer.precision, "channels_last": trainer.channels_last}

        def save() -> None:
            states = world.gather(get_random_state())
            if world.is_main:
                content = {
                    "model": detector.state_dict(),
                    "ema": None if ema is None else ema.module.state_dict(),
                    "config": settings,
                    "classes": classes,
                    "preprocess": preprocess.to_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict(),
                    "rng": states,
                    "position": {
                        "epoch": stream.epoch, "batch": stream.batch, "step": now.step, "elapsed_s": now.seconds,
                    },
                    "metrics": metrics,
                    "best": asdict(best),
                }  # fmt: skip
                last = folder / "checkpoints" / "last.pt"
                save_checkpoint(last, content)
                if best.step == now.step or val_loader is None:
                    copy_checkpoint(last, last.with_name("best.pt"))

        log = RunLog(
            folder, budget, tensorboard=config.logger.tensorboard, bar=config.logger.bar, silent=not world.is_main
        )
        log.message(_headline(settings, annotations, detector, world, budget, now))
        faults: set[tuple[str, str]] = set()
        window = Window()
        try:
            while budget.passed(now) < 1 and not best.is_stale(trainer.patience):
                # One step: an optimizer step on `accumulate` batches.
                started, waited, before = time.perf_counter(), stream.waited, now
                batches = [stream.take() for _ in range(trainer.accumulate)]
                faults.update(_faults(batches))
                lr = set_lr(optimizer, schedule.factor(budget.passed(now), now.step))
                values = _step(model, optimizer, scaler, batches, config, world, folder, now.step + 1)
                if ema is not None:
                    ema.update(now.step + 1)
                seconds = time.perf_counter() - started
                now = Progress(now.step + 1, now.seconds + seconds)
                if timed:
                    now = world.broadcast(now)

                # What is told about it.
                images = sum(len(batch) for batch in batches) * world.size
                window.add(values, images=images, seconds=seconds, waited=stream.waited - waited)
                epoch = float(now.step / steps_per_epoch)
                log.show(epoch, now, window.means())
                if now.step % config.logger.every == 0:
                    log.write("train", epoch, now, world.mean(window.means()) | {"train/lr": lr})
                    window.clear()

                # What is done from time to time.
                ended = budget.passed(now) >= 1
                evaluated = val_loader is not None and (ended or is_due(eval_every, before, now))
                if evaluated:
                    metrics, _ = validate(averaged, val_loader, world, **forward)
                    best = best.after(select_metric(metrics, trainer.best_metric), now.step)
                    log.write("val", epoch, now, _scalars(metrics))
                    log.message(f"step {now.step}: {trainer.best_metric} {select_metric(metrics, trainer.best_metric)}")
                if evaluated or ended or is_due(save_every, before, now):
                    save()
        finally:
            log.close()

        _tell_faults([item for part in world.gather(faults) for item in part])

        # The result: the best weights on the test split, or on the validation split where there is none.
        split = config.data.test_split or config.data.val_split
        if split is None:
            return {}
        averaged.load_state_dict(world.broadcast(_best_weights(folder) if world.is_main else None))
        test = read_split(config.data, split, classes)
        test_loader = evaluation_loader(
            test, preprocess, world, **config.evaluation, repair=config.data.repair
        )
        metrics, predictions = validate(averaged, test_loader, world, **forward)
        if world.is_main:
            write_report(folder, metrics, predictions, test)
            print(format_table(metrics))
        return metrics


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batches: Sequence[Batch],
    config: DictConfig,
    world: World,
    folder: Path,
    step: int,
) -> dict[str, float]:
    """One optimizer step on the mean loss of `batches`; returns its loss terms and gradient norm.

    The step is not taken where one of them is not finite: raises TrainingDiverged on every process.
    """
    trainer = config.trainer
    model.train()
    optimizer.zero_grad(set_to_none=True)
    terms: dict[str, Tensor] = {}
    for index, batch in enumerate(batches):
        more = index + 1 < len(batches)  # gradients travel between processes only once they are complete
        with model.no_sync() if more and world.size > 1 else nullcontext():  # type: ignore[operator]
            with autocast(world.device, trainer.precision):
                losses = model(to_device(batch, world.device, trainer.channels_last))
            total = torch.stack([loss.float() for loss in losses.values()]).sum() / len(batches)
            scaler.scale(total).backward()
        for name, loss in losses.items():
            terms[f"loss/{name}"] = terms.get(f"loss/{name}", 0) + loss.detach().float() / len(batches)
    terms["loss/total"] = torch.stack(list(terms.values())).sum()
    scaler.unscale_(optimizer)
    limit = float("inf") if trainer.clip_norm is None else trainer.clip_norm
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    terms["grad_norm"] = nn.utils.clip_grad_norm_(parameters, limit)
    values = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))  # the one wait for the device
    # with a scaler an infinite gradient is its business: it skips the step and scales less
    checked = {name: value for name, value in values.items() if name != "grad_norm" or not scaler.is_enabled()}
    if world.any(nan_guard.first_bad(checked) is not None):
        raise nan_guard.stop(step, checked, batches, folder)
    scaler.step(optimizer)
    scaler.update()
    return values


def _open_folder(folder: Path, settings: Mapping[str, Any], world: World) -> None:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(dict(settings)), folder / "config.yaml")
    environment = describe_environment(world.device) | {"processes": world.size}
    (folder / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


def _restore_random_state(saved: Mapping[str, Any], world: World) -> None:
    states = saved["rng"]
    if len(states) != world.size:
        raise UserError(f"this run was saved by {len(states)} processes and cannot go on with {world.size}")
    set_random_state(states[world.rank])


def _headline(
    settings: Mapping[str, Any], annotations: Any, detector: nn.Module, world: World, budget: Duration, now: Progress
) -> str:
    count = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)
    lines = [
        f"run folder {settings['run_dir']}",
        f"{len(annotations)} images, {len(annotations.boxes)} objects of {len(annotations.classes)} classes"
        f" ({annotations.source})",
        f"{count / 1e6:.1f} M parameters to train on {world.size} x {world.device}, "
        + (f"{budget.total / 60:g} minutes" if budget.timed else f"{budget.total:g} steps")
        + (f", going on from step {now.step}" if now.step else ""),
    ]
    faults = describe_faults(annotations)
    return "\n".join([*lines, f"left out while reading: {faults}"] if faults else lines)


def _faults(batches: Sequence[Batch]) -> set[tuple[str, str]]:
    """(image id, kind) of everything that the data set repaired in these batches."""
    return {
        (target["image_id"], kind)
        for batch in batches
        for target in batch.targets or ()
        for kind in target.get("faults", ())  # type: ignore[attr-defined]
    }


def _tell_faults(faults: Sequence[tuple[str, str]]) -> None:
    images: dict[str, str] = {kind: image_id for image_id, kind in sorted(set(faults), reverse=True)}
    for kind, count in Counter(kind for _, kind in set(faults)).most_common():
        print(f"repaired while training: {kind} in {count} images (first: {images[kind]}); see detkit check_data")


def _scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The overall numbers as val/mAP_area, val/AP_50, ... and those of each class."""
    return {
        f"val/{name}": value
        for group in ("voc", "coco")
        for name, value in metrics[group].items()
        if isinstance(value, float)
    }


def _best_weights(folder: Path) -> dict[str, Tensor]:
    saved = load_checkpoint(folder / "checkpoints" / "best.pt")
    return saved["ema"] or saved["model"]
