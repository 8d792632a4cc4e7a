"""Compose the contenders of a comparison: models to be trained, each as a command of its own, and checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detkit.checkpoint.build import check_assembly
from detkit.checkpoint.run_name import run_name
from detkit.checkpoint.store import find_checkpoint
from detkit.compare.comparison import AnyTask
from detkit.config.chosen import chosen_by, for_finetuning
from detkit.config.node import Config, accept_new_keys, as_node, missing_keys, plain, select, without_hydra
from detkit.config.overrides import (
    ConfigLoader,
    load_config,
    loader_of_command,
    missing,
    options_of,
    parse,
    typed_overrides,
)
from detkit.config.values import check_values
from detkit.core.errors import UserError
from detkit.core.suggest import did_you_mean
from detkit.model.roi_head.rcnn import RCNNHead
from detkit.task.base import task_of
from detkit.train.finetune import find_start

BACKBONES = re.compile(r"model/backbone(@.+)?")  # R-CNN has its own behind the crops, in another place of the model
# keys that train.yaml does not have
OWN = ("models", "backbone", "runtime", "seeds", "fit_svm", "timing", "pictures", "overrides")


@dataclass(frozen=True)
class Contender:
    """One row of the table.

    checkpoint: what is measured, where nothing is to be trained. overrides: of the training otherwise.
    jobs: configs, of one training for each seed, or of one evaluation of the checkpoint, or of each of `fits`.
    fits: configs of `detkit fit_svm`, one for each training of another contender, which comes before.
    task: of what is trained; None where the checkpoint knows it.
    """

    name: str
    checkpoint: Path | None = None
    overrides: tuple[str, ...] = ()
    jobs: tuple[Config, ...] = ()
    fits: tuple[Config, ...] = ()
    task: AnyTask | None = None

    @property
    def trainings(self) -> tuple[Config, ...]:
        """Those of its jobs that train."""
        return () if self.checkpoint is not None or self.fits else self.jobs

    @property
    def file_name(self) -> str:
        """The name, as a file or folder may be called."""
        return re.sub(r"[^\w.,=+-]+", "_", self.name)


def compose_contenders(config: Config, folder: Path) -> list[Contender]:
    """The contenders that `config` (configs/compare.yaml) names; their runs go to folder/<name>/seed<k>.

    Nothing is trained or written. Raises UserError for a model, a group, a key or a path that does not exist, for a
    model whose parts do not fit, and where two have one name.
    """
    if not config.seeds:
        raise UserError("seeds=[]: name at least one, as in seeds=[0]")
    if config.models is not None and not config.models:
        raise UserError("models=[]: name at least one, as in models=[ssd_light]; null is what the command itself says")
    loader = loader_of_command()
    common = _for_training(config.overrides)
    contenders = []
    for name, entry in read_entries(config.models, options_of(loader, "model")):
        if isinstance(entry, Path):
            contenders.append(Contender(name, entry))
            continue
        composed = compose(loader, "train", [*common, *entry])
        choices = composed.hydra.runtime.choices
        overrides = [*common, *_with_backbone(config.backbone, choices), *entry]
        name = name or str(choices["experiment"] or run_name(choices["model"], composed.finetune))
        contenders.append(Contender(name, overrides=tuple(overrides)))
    files = [contender.file_name for contender in contenders]
    for contender in contenders:
        if files.count(contender.file_name) > 1:
            raise UserError(f"models: two are called {contender.name}; write NAME: [overrides] to name them yourself")
    trainings = {
        contender.name: [_training(loader, contender, int(seed), folder) for seed in config.seeds]
        for contender in contenders
        if contender.checkpoint is None
    }
    tasks = {name: _check_training(name, jobs[0]) for name, jobs in trainings.items()}
    data = _data_of_all(config, list(trainings.values()), common)
    found = []
    for contender in contenders:
        if contender.checkpoint is not None:
            run = folder / contender.file_name
            found.append(replace(contender, jobs=(_evaluation(loader, contender.checkpoint, config, data, run),)))
            continue
        jobs = trainings[contender.name]
        found.append(replace(contender, jobs=tuple(jobs), task=tasks[contender.name]))
        if config.fit_svm and _is_rcnn(jobs[0]):
            found.append(_fitted(loader, found[-1], config, data, folder))
    if config.fit_svm and not any(contender.fits for contender in found):
        raise UserError("fit_svm=true: no R-CNN is trained here, as models=[rcnn_light] would")
    return found


def _is_rcnn(job: Config) -> bool:
    target = select(job, "model.roi_head._target_")
    return target == f"{RCNNHead.__module__}.{RCNNHead.__qualname__}"


def _fitted(loader: ConfigLoader, trained: Contender, config: Config, data: Config | None, folder: Path) -> Contender:
    """The contender that the SVMs and box regressors make of a trained R-CNN."""
    contender, fits, jobs = Contender(f"{trained.name}_svm", task=trained.task), [], []
    for training in trained.trainings:
        fit = without_hydra(compose(loader, "fit_svm", [f"checkpoint={training.run_dir}"]))
        accept_new_keys(fit)
        fit.run_dir = str(folder / contender.file_name / f"seed{training.seed}")
        fit.precision, fit.channels_last = config.trainer.precision, config.trainer.channels_last
        fit.device, fit.proposal_cache, fit.trust = config.device, config.proposal_cache, config.trust
        fit.num_workers = config.evaluation.num_workers
        fits.append(fit)
        jobs.append(_evaluation(loader, Path(fit.run_dir), config, data, Path(fit.run_dir) / "eval"))
        jobs[-1].seed = training.seed
    return replace(contender, fits=tuple(fits), jobs=tuple(jobs))


def read_entries(models: object, options: Sequence[str]) -> Iterator[tuple[str, list[str] | Path]]:
    """(name, training overrides or path of a checkpoint) of each entry of `models`.

    models: names of `options` (the configs of model/), overrides, paths, or mappings of a name to one or several of
    these; null: one entry, without a name, that is what the command itself says. Raises UserError.
    """
    if models is None:
        yield "", []
        return
    entries = plain(models)
    for item in [entries] if isinstance(entries, (Mapping, str)) else entries:
        for name, entry in item.items() if isinstance(item, Mapping) else [("", item)]:
            yield _read_entry(str(name), entry, options)


def _read_entry(name: str, entry: object, options: Sequence[str]) -> tuple[str, list[str] | Path]:
    if isinstance(entry, str) and "=" in entry and not Path(entry).exists():
        said = "" if entry.startswith("finetune=") else entry.rpartition("=")[2].rpartition("/")[2]
        return name or said, [entry]
    if isinstance(entry, str) and entry in options:
        return name or entry, [f"model={entry}"]
    if isinstance(entry, str):
        if not Path(entry).expanduser().exists():
            raise UserError(
                f"models: {entry} is neither a model nor a file or run folder{did_you_mean(entry, options)}"
                f"\nmodels: {', '.join(options)}"
            )
        path = find_checkpoint(entry)
        run = path.parent.parent if path.parent.name == "checkpoints" else path
        return name or "/".join(run.resolve().parts[-2:]), path
    if entry is None or isinstance(entry, Sequence):
        overrides = [str(override) for override in entry or ()]
        chosen = {override.partition("=")[0] for override in overrides}
        named = [f"model={name}"] if name in options and not chosen & {"model", "experiment"} else []
        return name, [*named, *overrides]
    raise UserError(f"models: {name or entry}: expected a model, a path, or a list of overrides, not {entry}")


def compose(loader: ConfigLoader, name: str, overrides: Iterable[str]) -> Config:
    """The config `name` with `overrides`, as a command of its own would have it; raises UserError."""
    overrides = list(overrides)
    overrides = for_finetuning(loader, overrides, overrides)
    config = load_config(loader, name, overrides)
    if config.get("finetune") is not None:
        find_start(config, None, chosen_by(loader, overrides))
    check_values(config, name, typed_overrides(overrides))
    return config


def _with_backbone(backbone: str | None, choices: Mapping[str, object]) -> list[str]:
    """The overrides that put `backbone` where a model has one; null and pixels are no networks."""
    if backbone is None:
        return []
    places = [key for key, choice in choices.items() if BACKBONES.fullmatch(key) and choice not in (None, "pixels")]
    return [f"{place}={backbone}" for place in places]


def _training(loader: ConfigLoader, contender: Contender, seed: int, folder: Path) -> Config:
    """The config of one training; where it was begun it goes on."""
    config = without_hydra(compose(loader, "train", contender.overrides))
    run = folder / contender.file_name / f"seed{seed}"
    last = run / "checkpoints" / "last.pt"
    config.name, config.seed, config.run_dir = contender.name, seed, str(run)
    config.resume = str(last) if last.is_file() else True  # true: begin again in a folder without checkpoint
    config.evaluation.timing_images = 0  # all are timed together, later
    config.evaluation.proposal_recall = True
    return config


def _check_training(name: str, job: Config) -> AnyTask:
    """The task of a model. Raises UserError where it cannot be put together: now, not once those before are trained."""
    if missing_keys(job.model):
        raise missing(as_node({"model": job.model}))
    try:
        return task_of(check_assembly(plain(job)))
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _evaluation(loader: ConfigLoader, checkpoint: Path, config: Config, data: Config | None, run: Path) -> Config:
    """The config of an evaluation of a checkpoint, as the trainings are measured."""
    found = without_hydra(compose(loader, "eval", []))
    accept_new_keys(found)
    found.checkpoint, found.run_dir = str(checkpoint), str(run)
    found.device, found.precision, found.channels_last = (
        config.device, config.trainer.precision, config.trainer.channels_last
    )  # fmt: skip
    found.runtime, found.proposal_cache, found.trust = config.runtime, config.proposal_cache, config.trust
    for key in ("batch_size", "num_workers", "pictures"):
        found.evaluation[key] = config.evaluation[key]
    found.evaluation.timing_images = 0
    if data is not None:
        found.data = data
    return found


def _data_of_all(config: Config, trainings: list[list[Config]], common: Sequence[str]) -> Config | None:
    """What checkpoints are measured on: what the trainings are, or the command says; None: what each was trained on."""
    if trainings:
        return trainings[0][0].data
    return config.data if any(re.match(r"(data|experiment)\b", override) for override in common) else None


def _for_training(overrides: Sequence[str]) -> list[str]:
    """Those that are not the comparison's own."""
    return [
        str(override.input_line)
        for override in parse([str(item) for item in overrides])
        if override.key_or_group.partition(".")[0] not in OWN
    ]
