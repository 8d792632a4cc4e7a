"""Start a training from a checkpoint: take over its model, preprocess and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detkit.checkpoint.build import build_detector, build_preprocess, check_source, without_pretrained
from detkit.checkpoint.content import Checkpoint
from detkit.checkpoint.transfer import COUNTERS, listed, transfer
from detkit.checkpoint.trust import check_targets, named_in, names_of
from detkit.config.chosen import Chosen, chosen_by_command
from detkit.config.hydra_folder import named_by_time
from detkit.config.node import Config, as_node, child, is_node, opened, plain, select, switched_off, unresolved
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.core.suggest import among
from detkit.core.weight_file import without_wrappers
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.model.detector import Detector
from detkit.run.run_folder import differences, find_run

TAKEN = ("model", "preprocess", "proposal")  # what a training takes from the checkpoint that it starts from


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    source: as it was named. checkpoint: what is there. changed: how the training's model and frame differ from it.
    """

    source: str
    checkpoint: Checkpoint
    changed: list[str]

    def load_into(self, detector: Detector, classes: Sequence[str], build: Callable[[int], Detector]) -> str:
        """Fill the detector, which is for `classes`, with what fits; returns what came of it, for the log.

        build: makes a detector like it for another number of classes. Raises UserError where too little fits.
        """
        found = transfer(detector, self.checkpoint, classes, build)
        if 2 * found.fitting < found.of:
            raise UserError(
                f"finetune={self.source}: {found.fitting} of {found.of} weights fit the model in its config (wanted: "
                f"{listed(found.fresh, 3)}; there: {listed(found.unused, 3)}): are they of another model?"
            )
        told = f"starts from {self.source}; {found}"
        if self.checkpoint.unused:
            told += f"; {self.checkpoint.unused}"
        return told + (f"; other settings than there: {listed(self.changed)}" if self.changed else "")


def find_start(config: Config, saved: Checkpoint | None, given: Chosen) -> Start | None:
    """Put what a fine-tuning takes from its checkpoint into the config of a training, before anything reads it.

    Model, preprocess and proposal become those of the checkpoint, but for what the user has chosen of them, so that
    what the rest of the config interpolates is what is trained. Done twice it is done once.

    config: configs/train.yaml as composed, changed in place. saved: of a run that is gone on with, which has the model
    from there already. given: what of the config is the user's choice. Returns None where the training starts anew.
    Raises UserError where the user has chosen another model, settings that the model of the checkpoint has not or that
    its weights do not go with, or where it names a part that is neither detkit's nor trusted.
    """
    if config.get("finetune") is None:
        return None
    source = str(config.finetune)
    trust = [*names_of(config.trust), *_named_by_user(config, given)]
    checkpoint = load_checkpoint(source, trust=trust) if saved is None else saved
    if checkpoint.graph is not None:
        raise UserError(f"finetune={source}: an exported file cannot learn; take the .pt that it was made of")
    there = {
        "model": without_pretrained(checkpoint.model_config),
        "preprocess": dict(checkpoint.preprocess),
        "proposal": checkpoint.proposal_config,
    }
    if "model" in given.groups:
        parts: Any = as_node({key: without_pretrained(plain(config.get(key))) for key in TAKEN})
        _check_same_parts(there, plain(parts), checkpoint, source, given.groups["model"])
    else:
        parts = _with_chosen(there, config, given, source)
    with opened(config):
        for key in TAKEN:
            config[key] = parts[key]
    here = {key: plain(config.get(key)) for key in TAKEN}  # a group that nothing was chosen of is not there
    check_targets(here["model"], trust, "model")
    check_targets(here["preprocess"], trust, "preprocess")
    if here["proposal"] is not None:
        check_source(here["proposal"], trust)
    changed = differences(there, here, ("proposal",))
    if changed:
        _check_same_weights(checkpoint, here, changed, source, given, trust)
    return Start(source, checkpoint, changed)


def place_start(config: Config) -> None:
    """`find_start` for the command that Hydra runs now, before its config is checked."""
    run_dir = Path(config.run_dir)
    path, _ = find_run(config.resume, run_dir, any_name=named_by_time(run_dir))
    saved = None if path is None else load_checkpoint(path, trust=names_of(config.trust))
    find_start(config, saved, chosen_by_command())


def _named_by_user(config: Config, given: Chosen) -> Iterator[str]:
    """Every `_target_` in those parts of the config that the user has chosen, and not a checkpoint."""
    for place in [*(group.replace("/", ".") for group in given.groups), *given.keys]:
        if place.partition(".")[0] not in TAKEN:
            continue
        node = select(config, place)
        if place.endswith("._target_") and node is not None:
            yield str(node)
        elif is_node(node):
            yield from named_in(unresolved(node))


def _check_same_parts(there: Settings, here: Settings, checkpoint: Checkpoint, source: str, said: str) -> None:
    """Raise UserError naming both models where one has a part that the other has not."""
    before, now = dict(_parts(there["model"])), dict(_parts(here["model"]))
    for place in sorted(before.keys() | now.keys()):
        if before.get(place) != now.get(place):
            name = checkpoint.name or "another model"
            raise UserError(
                f"finetune={source} is {name}, not the model of {said}: {place} is {before.get(place, 'none')} there "
                f"and {now.get(place, 'none')} here\na fine-tuning takes its model from the checkpoint: drop what "
                "chooses one, or start from a checkpoint of that"
            )


def _check_same_weights(
    checkpoint: Checkpoint,
    here: Settings,
    changed: Sequence[str],
    source: str,
    given: Chosen,
    trust: Sequence[str],
) -> None:
    """Raise UserError where weights of the checkpoint have no place in a detector as it is here, or it lacks one.

    Seen on a detector without memory, for the classes of the checkpoint; weights may be kept in another form.
    """
    with torch.device("meta"):
        preprocess = build_preprocess(here["preprocess"], trust)
        detector = build_detector(here["model"], len(checkpoint.classes), preprocess)
        own = detector.state_dict()
        weights = without_wrappers(checkpoint.weights, own)
        alike = {
            name: value.to("meta")
            for name, value in weights.items()
            if name not in own or own[name].shape == value.shape
        }
        found = detector.load_state_dict(alike, strict=False)
    missing, unused = (
        [name for name in names if not name.endswith(COUNTERS)]
        for names in (found.missing_keys, [*found.unexpected_keys, *(name for name in weights if name not in alike)])
    )
    if not missing and not unused:
        return
    lines = [f"finetune={source}: its weights are not those of a model with {listed(changed, 5)}"]
    if missing:
        lines.append(f"not in the checkpoint: {listed(missing, 5)}")
    if unused:
        lines.append(f"only in the checkpoint: {listed(unused, 5)}")
    said = [text.lstrip("+") for place, text in [*given.groups.items(), *given.keys.items()] if _is_of_start(place)]
    chosen = given.groups.get("model") or listed(said, 5) or "these settings"
    raise UserError("\n".join([*lines, f"drop {chosen}: a fine-tuning takes its model from the checkpoint"]))


def _is_of_start(place: str) -> bool:
    return place.replace("/", ".").partition(".")[0] in TAKEN


def _with_chosen(there: Settings, config: Config, given: Chosen, source: str) -> Config:
    """The parts of a checkpoint with the options and the values of them that the user has chosen."""
    parts = as_node(there)
    for group, said in given.groups.items():
        if _is_of_start(group):
            _set(parts, group.replace("/", "."), config, said, source)
    for key, said in given.keys.items():
        if _is_of_start(key) and "." in key:
            _set(parts, key, config, said, source)
    return parts


def _set(parts: Config, place: str, config: Config, said: str, source: str) -> None:
    """Give the dotted `place` of `parts` what stands there in the composed config, interpolations as they are."""
    above, _, last = place.rpartition(".")
    node: Any = select(parts, above) if above else parts
    is_new = said.startswith("+") and not said.startswith("++")
    if not isinstance(node, Config) or (last not in node and not is_new):
        known = [str(name) for name in node if not str(name).startswith("_")] if isinstance(node, Config) else []
        raise UserError(f"{said.lstrip('+')}: the model of finetune={source} has no {place}{among(last, known)}")
    chosen: Any = select(config, above) if above else config
    if not isinstance(chosen, Config) or last not in chosen:
        raise UserError(f"{said}: nothing can be taken out of the model of finetune={source}")
    if last != "pretrained":
        node[last] = switched_off(child(chosen, last), "pretrained")
    elif chosen[last]:
        raise UserError(f"{said.lstrip('+')}: the weights come from finetune={source}, drop one of both")


def _parts(node: Any, place: str = "model") -> list[tuple[str, str]]:
    """(place, _target_) of every part below a config."""
    if isinstance(node, Mapping):
        own = [(place, str(node["_target_"]).rpartition(".")[2])] if "_target_" in node else []
        return own + [part for key, value in node.items() for part in _parts(value, f"{place}.{key}")]
    if isinstance(node, (list, tuple)):
        return [part for index, value in enumerate(node) for part in _parts(value, f"{place}[{index}]")]
    return []
