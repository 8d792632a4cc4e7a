"""Starting from what another training, or another project, has learned: its model, its frame and its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig

from detkit.chosen import Chosen, chosen_by
from detkit.config import check_source, without_pretrained
from detkit.data.builder import nearest
from detkit.engine.checkpoint import load_checkpoint
from detkit.engine.contender import loader_of_this_command
from detkit.engine.run_folder import differences
from detkit.engine.transfer import Transfer, listed, transfer
from detkit.errors import UserError
from detkit.model.detector import Detector
from detkit.trust import check_targets, named_in, names_of

TAKEN = ("model", "preprocess", "proposal")  # what a training takes from the checkpoint that it starts from


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    source: as it was named. content: of the checkpoint. settings: the training's model, preprocess and proposal: those
    of the checkpoint with what the user has chosen. changed: how they differ from it. model_chosen: how the user chose
    a model; None: it is the checkpoint's.
    """

    source: str
    content: Mapping[str, Any]
    settings: dict[str, Any]
    changed: list[str]
    model_chosen: str | None

    def load_into(self, detector: Detector, classes: Sequence[str], build: Callable[[int], Detector]) -> str:
        """Fill the detector, which is for `classes`, with what fits; returns what came of it, for the log.

        build: makes a detector like it for another number of classes. Raises UserError where too little fits.
        """
        found = transfer(detector, self.content, classes, build)
        if self.changed and (found.fresh or found.unused):
            raise UserError(self._misfit(found))
        if 2 * found.fitting < found.of:
            raise UserError(
                f"finetune={self.source}: {found.fitting} of {found.of} weights fit the model in its config (wanted: "
                f"{listed(found.fresh, 3)}; there: {listed(found.unused, 3)}): are they of another model?"
            )
        told = f"starts from {self.source}; {found}"
        if self.content.get("unused"):
            told += f"; {self.content['unused']}"
        return told + (f"; other settings than there: {listed(self.changed)}" if self.changed else "")

    def _misfit(self, found: Transfer) -> str:
        lines = [f"finetune={self.source}: its weights are not those of a model with {listed(self.changed, 5)}"]
        if found.fresh:
            lines.append(f"not in the checkpoint: {listed(found.fresh, 5)}")
        if found.unused:
            lines.append(f"only in the checkpoint: {listed(found.unused, 5)}")
        chosen = self.model_chosen or "these settings"
        return "\n".join([*lines, f"drop {chosen}: a fine-tuning takes its model from the checkpoint"])


def find_start(
    settings: Mapping[str, Any], saved: Mapping[str, Any] | None, overrides: Sequence[str] | None
) -> Start | None:
    """What a training with these settings (configs/train.yaml, resolved) starts from; None where it starts anew.

    saved: of a run that is gone on with, which has the model from there already. overrides: that the settings were
    composed of; None: those of this command. Raises UserError where the user has chosen another model, or settings that
    the model of the checkpoint has not, or where it names a part that is neither detkit's nor trusted.
    """
    if settings["finetune"] is None:
        return None
    source = str(settings["finetune"])
    trust = [*names_of(settings["trust"]), *named_in({key: settings.get(key) for key in TAKEN})]
    content = load_checkpoint(source, trust=trust) if saved is None else saved
    if "onnx" in content:
        raise UserError(f"finetune={source}: an exported file cannot learn; take the .pt that it was made of")
    given = _chosen(overrides)
    there = {
        "model": without_pretrained(content["config"]["model"]),
        "preprocess": dict(content["preprocess"]),
        "proposal": content["config"].get("proposal"),
    }
    model_chosen = given.groups.get("model")
    if model_chosen is not None:
        here = {key: without_pretrained(settings.get(key)) for key in TAKEN}
        _check_same_parts(there, here, content, source, model_chosen)
    else:
        here = _with_chosen(there, settings, given, source)
    check_targets(here["model"], trust, "model")
    check_targets(here["preprocess"], trust, "preprocess")
    if here["proposal"] is not None:
        check_source(here["proposal"], trust)
    changed = differences(there, here, ("proposal",))
    return Start(source, content, here, changed, model_chosen)


def _chosen(overrides: Sequence[str] | None) -> Chosen:
    if overrides is not None:
        return chosen_by(loader_of_this_command(), overrides)
    if not HydraConfig.initialized():
        return Chosen()
    hydra = HydraConfig.get()
    return chosen_by(loader_of_this_command(), list(hydra.overrides.task), str(hydra.job.config_name))


def _check_same_parts(
    there: Mapping[str, Any], here: Mapping[str, Any], content: Mapping[str, Any], source: str, said: str
) -> None:
    """Raise UserError naming both models where one has a part that the other has not."""
    before, now = dict(_parts(there["model"])), dict(_parts(here["model"]))
    for place in sorted(before.keys() | now.keys()):
        if before.get(place) != now.get(place):
            name = content["config"].get("name") or "another model"
            raise UserError(
                f"finetune={source} is {name}, not the model of {said}: {place} is {before.get(place, 'none')} there "
                f"and {now.get(place, 'none')} here\na fine-tuning takes its model from the checkpoint: drop what "
                "chooses one, or start from a checkpoint of that"
            )


def _with_chosen(there: Mapping[str, Any], settings: Mapping[str, Any], given: Chosen, source: str) -> dict[str, Any]:
    """The settings of a checkpoint with the values, and the frame, that the user has chosen."""
    for group, said in given.groups.items():
        if group.startswith("model/"):
            raise UserError(
                f"finetune={source} takes its model from the checkpoint: drop {said}, or choose the whole model "
                "(model=...), whose weights must be those of the checkpoint"
            )
    here = deepcopy(dict(there))
    for group in TAKEN[1:]:
        if group in given.groups:
            here[group] = deepcopy(settings.get(group))
    for key, said in given.keys.items():
        if key.partition(".")[0] in TAKEN and "." in key:
            _set(here, key, settings, said, source)
    return here


def _set(here: dict[str, Any], key: str, settings: Mapping[str, Any], said: str, source: str) -> None:
    """Give the dotted `key` of `here` the value that it has in the composed `settings`."""
    *path, last = key.split(".")
    node: Any = here
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    is_new = said.startswith("+") and not said.startswith("++")
    if not isinstance(node, dict) or (last not in node and not is_new):
        known = [name for name in node if not name.startswith("_")] if isinstance(node, dict) else []
        raise UserError(f"{said.lstrip('+')}: the model of finetune={source} has no {key}{nearest(last, known)}")
    value: Any = settings
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise UserError(f"{said}: nothing can be taken out of the model of finetune={source}")
        value = value[part]
    if last != "pretrained":
        node[last] = deepcopy(value)
    elif value:
        raise UserError(f"{said.lstrip('+')}: the weights come from finetune={source}, drop one of both")


def _parts(node: Any, place: str = "model") -> list[tuple[str, str]]:
    """(place, _target_) of every part below a config."""
    if isinstance(node, Mapping):
        own = [(place, str(node["_target_"]).rpartition(".")[2])] if "_target_" in node else []
        return own + [part for key, value in node.items() for part in _parts(value, f"{place}.{key}")]
    if isinstance(node, (list, tuple)):
        return [part for index, value in enumerate(node) for part in _parts(value, f"{place}[{index}]")]
    return []
