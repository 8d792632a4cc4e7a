"""Dispatch `detkit VERB ...` to functions of Hydra configs; user errors are printed in a line, without a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from detkit.commands.console import logged_to_console
from detkit.config.config_dir import config_dir
from detkit.core import __version__
from detkit.core.errors import UserError
from detkit.core.interrupt import answered_at_once
from detkit.core.suggest import did_you_mean

if TYPE_CHECKING:
    from detkit.config.node import Config
    from detkit.config.overrides import ConfigLoader


class Verb(NamedTuple):
    """One command: the config it starts from, the function that takes the config, one line of help.

    number: a function of what came out and the config, which gives a sweeper of Hydra the number that it optimises.
    """

    config: str
    function: str
    help: str
    number: str | None = None


VERBS = {
    "train": Verb(
        "train", "detkit.train.train:train", "train a detector, or go on with a run", "detkit.train.best_score:score_of"
    ),
    "fit_svm": Verb("fit_svm", "detkit.svm.fit_svm:fit_svm", "SVMs and box regressors for a trained R-CNN"),
    "eval": Verb("eval", "detkit.evaluate.evaluate:run_eval", "measure a checkpoint: mAP, COCO AP, time per stage"),
    "compare": Verb("compare", "detkit.compare.compare:run_compare", "train, measure and time several side by side"),
    "truncate_svd": Verb(
        "truncate_svd",
        "detkit.commands.truncate_svd:run_truncate_svd",
        "make the fully connected layers of a model thin",
    ),
    "predict": Verb("predict", "detkit.commands.predict:run_predict", "detect in a file, folder, glob or video"),
    "export": Verb("export", "detkit.commands.export:run_export", "an ONNX file, checked against its checkpoint"),
    "propose": Verb("propose", "detkit.commands.propose:run_propose", "selective search on a data set, measured"),
    "fit_anchors": Verb("fit_anchors", "detkit.commands.fit_anchors:fit_anchors", "anchor shapes from a data set"),
    "check_data": Verb("check_data", "detkit.commands.check_data:run_check", "name every fault of a data set"),
    "make_synthetic": Verb(
        "make_synthetic", "detkit.commands.make_synthetic:run_make_synthetic", "draw a data set of scenes"
    ),
}

USAGE = """detkit VERB [key=value ...] [group=option ...]

{verbs}

detkit VERB --help      groups and keys of a verb
detkit VERB --cfg job   the composed config, without running
detkit VERB -m key=a,b  one run for each value
detkit VERB --config-dir DIR experiment=mine   with your own DIR/experiment/mine.yaml
detkit --version
eval "$(detkit -sc install=bash)"   tab completion of verbs, groups and keys

DETKIT_TRACEBACK=1 shows where an error came from; DETKIT_MAX_MEGAPIXELS=500 reads pictures larger than 179."""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 2 wrong input, 130 interrupted, or the verb's own."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE.format(verbs="\n".join(f"  {name:<15} {verb.help}" for name, verb in VERBS.items())))
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"detkit {__version__}")
        return 0
    try:
        if "-sc" in argv or "--shell-completion" in argv:
            from detkit.config import completion

            configs = {name: verb.config for name, verb in VERBS.items()}
            print(completion.answer(argv, configs, str(config_dir())))
            return 0
        if argv[0] not in VERBS:
            raise UserError(f"no command {argv[0]}{did_you_mean(argv[0], VERBS)}\ncommands: {', '.join(VERBS)}")
        return _run(argv[0], argv[1:])
    except KeyboardInterrupt as end:
        print(f"interrupted{f' by {end}' if str(end) else ''}", file=sys.stderr)
        return getattr(end, "exit_code", 130)
    except SystemExit as end:  # argparse and Hydra's own --help end so
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:  # the reader of `detkit ... | head` has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        cause = _user_error(error)
        if cause is None:
            raise
        return _report(cause, error)


def _run(name: str, arguments: list[str]) -> int:
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from detkit.checkpoint.run_name import register
    from detkit.config.config_files import explain_yaml

    register()
    options = get_args_parser().parse_intermixed_args(arguments)
    configs = _find_configs(options, VERBS[name].config)
    codes = [0]
    try:
        arguments, typed = _check_arguments(configs, options, arguments)
        job = _job(name, typed, codes, sweeps=bool(options.multirun))
        with _process_as_hydra_expects(name, arguments), answered_at_once():
            hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=VERBS[name].config)(job)()
    except YAMLError as error:
        raise explain_yaml(error) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, configs, options.overrides) from error
    return 1 if 1 in codes else max(codes)


class Configs(NamedTuple):
    """What a command is composed from: its config, found by the loader, before that in the user's own folder."""

    loader: ConfigLoader
    name: str
    own: Path | None


def _find_configs(options: Namespace, default: str) -> Configs:
    """The configs that a command line names; raises UserError for a folder or a file that is not there."""
    from detkit.config.overrides import config_loader

    own = Path(options.config_dir).absolute() if options.config_dir else None
    if own is not None and not own.is_dir():
        raise UserError(f"--config-dir={options.config_dir} is no folder (current folder: {Path.cwd()})")
    folder = Path(options.config_path or config_dir()).absolute()
    loader = config_loader(str(folder), None if own is None else str(own))
    name = options.config_name or default
    places = [place / f"{name.removesuffix('.yaml')}.yaml" for place in (own, folder) if place is not None]
    if not any(place.is_file() for place in places):
        raise UserError(f"--config-name={options.config_name}: no such file; tried {', '.join(map(str, places))}")
    return Configs(loader, name, own)


def _check_arguments(configs: Configs, options: Namespace, arguments: list[str]) -> tuple[list[str], dict[str, object]]:
    """The arguments as Hydra takes them, and by key what the user's own config files say to the letter.

    Raises UserError for what Hydra would not notice, or answer in its own words. options: their overrides are put in
    place, as they are taken.
    """
    from detkit.config import overrides
    from detkit.config.chosen import for_finetuning
    from detkit.config.config_files import check_config_files, typed_text

    loader, typed = configs.loader, dict[str, object]()
    overrides.check_replaced_groups(loader, options.overrides)
    overrides.check_options(loader, options.overrides)
    options.overrides, arguments = overrides.without_null_groups(loader, configs.name, options.overrides, arguments)
    overrides.check_deleted(loader, configs.name, options.overrides)
    if not (options.help or options.hydra_help or options.info or options.shell_completion):
        single = for_finetuning(loader, overrides.first_of_sweep(options.overrides), options.overrides)
        if configs.own is not None or any(one.startswith("experiment=") for one in single):
            check_config_files(loader, configs.name, single, configs.own)
        typed |= typed_text(loader, configs.name, single) if configs.own is not None else {}
    return for_finetuning(loader, _flags_first(arguments, options.overrides), options.overrides), typed


def _job(name: str, typed: Mapping[str, object], codes: list[int], *, sweeps: bool) -> Callable[[Config], object]:
    """What Hydra calls with the composed config, of a sweep with each: the verb, whose exit code joins `codes`.

    sweeps: whether others follow, which go on after one that fails.
    """
    from omegaconf import MissingMandatoryValue

    from detkit.config import overrides
    from detkit.config.hydra_folder import remove_empty

    verb = VERBS[name]

    def job(config: Config) -> object:
        refused = True
        try:
            with logged_to_console():
                _check(config, name, typed)
                outcome = _load(verb.function)(config)
            refused = False
        except Exception as error:
            cause = overrides.missing(config) if isinstance(error, MissingMandatoryValue) else _user_error(error)
            if cause is None and not sweeps:
                raise
            codes.append(_report(cause, error))
            if sweeps:
                print(f"failed: {' '.join(overrides.task_overrides())}; the other jobs go on", file=sys.stderr)
                return None
            raise SystemExit(codes[-1]) from error  # Hydra would add lines of its own to an exception
        finally:
            remove_empty(refused=refused)
        codes.append(outcome if isinstance(outcome, int) else 0)
        return outcome if verb.number is None else _load(verb.number)(outcome, config)

    return job


def _explained(error: Exception, configs: Configs, overrides: list[str]) -> UserError:
    """What Hydra or OmegaConf has against a command, in the words of the configs where those know it."""
    from omegaconf.errors import OmegaConfBaseException

    from detkit.config.overrides import explain

    reason = explain(configs.loader, configs.name, overrides)
    if reason is None and isinstance(error, OmegaConfBaseException) and error.full_key:
        reason = f"{error.full_key}: {str(error).partition(chr(10))[0]}"
    return UserError(reason or "\n".join(filter(None, (str(error), str(error.__cause__ or "")))))


def _check(config: Config, name: str, typed: Mapping[str, object]) -> None:
    """Hold the composed config of a job against what its keys may hold; a value read otherwise is put in place."""
    from detkit.config import overrides, values

    if name == "train" and config.get("finetune") is not None:
        _load("detkit.train.finetune:place_start")(config)
    given = {**typed, **overrides.typed_overrides(overrides.task_overrides())}
    # the trainings of a comparison are each composed, and checked, as a command of its own
    values.check_values(config, name, given, dangling=name == "compare")


def _flags_first(arguments: list[str], overrides: list[str]) -> list[str]:
    """The same arguments in the order that Hydra's own parser takes: it stops at a flag after an override."""
    left = list(arguments)
    for override in reversed(overrides):
        del left[len(left) - 1 - left[::-1].index(override)]
    return [*left, *overrides]


@contextmanager
def _process_as_hydra_expects(verb: str, arguments: list[str]) -> Iterator[None]:
    """Hydra takes its arguments from sys.argv, the name of the job from the environment (or a module), and ends the
    process on an error unless HYDRA_FULL_ERROR is set."""
    from hydra.core.hydra_config import HydraConfig

    argv, environment, before = sys.argv, dict(os.environ), HydraConfig.instance().cfg
    sys.argv = [f"detkit {verb}", *arguments]
    os.environ.update(HYDRA_FULL_ERROR="1", HYDRA_MAIN_MODULE=verb)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before  # which --cfg leaves set, for whoever comes after in this process
        sys.argv = argv
        for key in ("HYDRA_FULL_ERROR", "HYDRA_MAIN_MODULE"):
            os.environ.pop(key)
            if key in environment:
                os.environ[key] = environment[key]


def _load(path: str) -> Callable[..., object]:
    module, _, name = path.partition(":")
    function: Callable[..., object] = getattr(import_module(module), name)
    return function


def _user_error(error: BaseException | None) -> UserError | None:
    """The UserError behind an exception: Hydra wraps what a part's constructor raises; a full disk is one too."""
    from detkit.config.hydra_folder import folder_of_command
    from detkit.core.disk import explain

    while error is not None and not isinstance(error, UserError):
        if isinstance(error, OSError) and (said := explain(error, folder_of_command())) is not None:
            return said
        error = error.__cause__
    return error


def _report(cause: UserError | None, error: BaseException) -> int:
    """Say what went wrong: a UserError in words (2), a bug with its traceback (1)."""
    if cause is None or os.environ.get("DETKIT_TRACEBACK"):
        traceback.print_exception(error)
    if cause is None:
        return 1
    print(f"error: {cause}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
