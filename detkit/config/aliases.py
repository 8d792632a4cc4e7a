"""Rename what stored configs call otherwise: old `_target_` paths, arguments, keys and weight names.

Who moves or renames what a stored config can name adds a row; a row stays for ever. What stands on the right is what is
there today: where that moves again, the older rows are changed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, overload

from detkit.core.plain import Settings

# Dotted paths of `_target_`s, of a part or of all below a module: {"detkit.old.place": "detkit.new.place"}.
TARGETS: dict[str, str] = {
    "detkit.data.coco": "detkit.data.formats.coco.coco",
    "detkit.data.darknet_jitter": "detkit.data.augment.darknet_jitter",
    "detkit.data.hsv": "detkit.data.augment.hsv",
    "detkit.data.mosaic": "detkit.data.augment.mosaic",
    "detkit.data.preprocess": "detkit.image.preprocess",
    "detkit.data.ssd_crop": "detkit.data.augment.ssd_crop",
    "detkit.data.synthetic.read_synthetic": "detkit.data.synthetic.synthetic.read_synthetic",
    "detkit.data.transform": "detkit.data.augment.transform",
    "detkit.data.voc": "detkit.data.formats.voc.voc",
    "detkit.data.yolo_txt": "detkit.data.formats.yolo.yolo_txt",
    "detkit.engine.optimizer": "detkit.train.optimizer",
    "detkit.engine.schedule": "detkit.train.schedule",
    "detkit.model.proposer.external.External": "detkit.model.proposer.precomputed.PrecomputedProposals",
    "detkit.model.tail": "detkit.model.box_head",
}
# What a part takes, by its path of today: {"detkit.new.place.Part": {"old_argument": "new_argument"}}.
ARGUMENTS: dict[str, dict[str, str]] = {
    "detkit.model.box_head.RegionCNN": {"tail": "box_head"},
    "detkit.model.two_stage.build_two_stage": {"tail": "box_head"},
}
# Places in the config of a training, from its root: {"loader.old": "loader.new"}.
PLACES: dict[str, str] = {
    "decoded_dir": "decode_cache",
    "loader.sides": "loader.multiscale",
    "mix": "multi_image",
    "model.tail": "model.box_head",
    "model.tail.tail": "model.box_head.box_head",
    "proposing": "proposal_cache",
}
# Options of a group that users may still type: {"group=old": "group=new"}.
OPTIONS: dict[str, str] = {
    "model/proposer=external": "model/proposer=precomputed",
    "model/proposer=external_distinct": "model/proposer=precomputed_distinct",
    "model/proposer=external_light": "model/proposer=precomputed_light",
}
# Names of weights, of one or of all of a module: {"roi_head.old": "roi_head.new"}.
WEIGHTS: dict[str, str] = {
    "roi_head.tail": "roi_head.box_head",
    "roi_head.tail.tail": "roi_head.box_head.box_head",
}

Value = TypeVar("Value")


def renamed_config(config: Settings) -> Settings:
    """A copy of the stored config of a training, in the names of today."""
    found = dict(renamed(config))
    for old, new in PLACES.items():
        _move(found, old.split("."), new.split("."))
    return found


@overload
def renamed(node: Settings) -> Settings: ...
@overload
def renamed(node: object) -> object: ...
def renamed(node: object) -> object:
    """A copy of any stored config node in which parts, at any depth, are named and given values as today."""
    if isinstance(node, Mapping):
        inner = {key: renamed(value) for key, value in node.items()}
        target = inner.get("_target_")
        if not isinstance(target, str):
            return inner
        inner["_target_"] = name_now(target, TARGETS)
        names = ARGUMENTS.get(inner["_target_"], {})
        return {names.get(key, key): value for key, value in inner.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(map(renamed, node))
    return node


def said_now(key: str) -> str | None:
    """What a key (loader.sides) or a group (model/tail) of before is called today; None where it is called as ever."""
    name, _, package = key.partition("@")
    now = name_now(name.replace("/", "."), PLACES)
    now = now.replace(".", "/") if "/" in name else now
    now += f"@{name_now(package, PLACES)}" if package else ""
    return None if now == key else now


def renamed_weights(weights: Mapping[str, Value]) -> Mapping[str, Value]:
    """Stored weights by the names of today; themselves where no name has changed."""
    if not WEIGHTS:
        return weights
    return {name_now(name, WEIGHTS): value for name, value in weights.items()}


def name_now(name: str, rows: Mapping[str, str]) -> str:
    """What a dotted name of before is today, by the row that says most of it; itself where none does."""
    fitting = [old for old in rows if f"{name}.".startswith(f"{old}.")]
    if not fitting:
        return name
    old = max(fitting, key=len)
    return rows[old] + name.removeprefix(old)


def _move(config: dict[str, Any], old: list[str], new: list[str]) -> None:
    """Take the value at the place `old`, if there is one, to the place `new`, in place."""
    source: object = config
    for key in old[:-1]:
        source = source.get(key) if isinstance(source, dict) else None
    if not isinstance(source, dict) or old[-1] not in source:
        return
    value, target = source.pop(old[-1]), config
    for key in new[:-1]:
        target = target.setdefault(key, {})
    target[new[-1]] = value
