"""From a resolved config to a detector, for training and from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from detkit.data.preprocess import Preprocess
from detkit.errors import UserError
from detkit.model.detector import Detector
from detkit.target import build, check_part, complete

# A checkpoint comes from outside; what it names is built only from these packages, so it can run nothing else.
TRUSTED = ("detkit.model.", "detkit.data.preprocess.")
# What a checkpoint may name to propose regions with; the first ones propose for any image.
SOURCES = ("detkit.proposal.selective_search.SelectiveSearch", "detkit.proposal.trained_rpn.TrainedRPN")
FILE_SOURCE = "detkit.proposal.proposal_file.read_proposals"


def build_preprocess(config: Mapping[str, Any]) -> Preprocess:
    """The preprocess that a config node or a checkpoint describes by `_target_` and values."""
    check_targets(config)
    return build(config, "preprocess")


def build_detector(model: Mapping[str, Any], num_classes: int, preprocess: Preprocess) -> Detector:
    """The detector of a `model` config node for `num_classes` classes; raises UserError where its parts do not fit."""
    return complete(build(model, "model", _partial_=True), "model", num_classes=num_classes, preprocess=preprocess)


def check_assembly(settings: Mapping[str, Any]) -> None:
    """Raise UserError where the resolved config of a training cannot be put together: a matter of a second.

    No weights are made or fetched, no data are read.
    """
    for key in ("proposal", "mix", "augment", "optimizer", "schedule"):
        if settings.get(key) is not None:
            check_part(settings[key], key)
    with torch.device("meta"):
        build_detector(_unfetched(settings["model"]), 2, build_preprocess(settings["preprocess"]))


def build_from_checkpoint(checkpoint: Mapping[str, Any]) -> Detector:
    """The detector of a checkpoint with its weights (EMA where kept), in eval mode; nothing is downloaded.

    Raises UserError where the checkpoint names a part outside detkit, or its weights do not fit its config.
    """
    if "onnx" in checkpoint:
        from detkit.bridge.export.session import build_onnx

        return build_onnx(checkpoint)
    model = without_pretrained(checkpoint["config"]["model"])
    check_targets(model)
    detector = build_detector(model, len(checkpoint["classes"]), build_preprocess(checkpoint["preprocess"]))
    try:
        detector.load_state_dict(checkpoint.get("ema") or checkpoint["model"])
    except RuntimeError as error:
        raise UserError(f"the weights of the checkpoint do not fit the model in its config: {error}") from error
    return detector.eval()


def with_test_settings(
    checkpoint: Mapping[str, Any], *, preprocess: Mapping[str, Any], postprocess: Mapping[str, Any]
) -> dict[str, Any]:
    """A checkpoint's content with other settings (`configs/test_settings.yaml`), where those are not None.

    preprocess: `side`, as of `Preprocess.at`, and `decode`. postprocess: arguments of the model's postprocess.
    Raises UserError for a side that is none, and for an exported file, which has its settings inside.
    """
    before = {key: value for key, value in preprocess.items() if value is not None}
    after = {key: value for key, value in postprocess.items() if value is not None}
    if not before and not after:
        return dict(checkpoint)
    if "onnx" in checkpoint:
        given = ", ".join([*(f"preprocess.{key}" for key in before), *(f"postprocess.{key}" for key in after)])
        raise UserError(f"{given}: an exported file has its settings inside; give them to detkit export")
    side = before.pop("side", None)
    if side is not None and (not isinstance(side, int) or side < 1):
        raise UserError(f"preprocess.side={side}: a number of pixels, above 0")
    seen = build_preprocess({**checkpoint["preprocess"], **before})
    config, model = checkpoint["config"], checkpoint["config"]["model"]
    return {
        **checkpoint,
        "preprocess": (seen if side is None else seen.at(side)).to_dict(),
        "config": {**config, "model": {**model, "postprocess": {**model["postprocess"], **after}}},
    }


def build_source(checkpoint: Mapping[str, Any], *, for_any_image: bool) -> Any:
    """What proposed the regions that the detector of a checkpoint learnt from; None where it proposes them itself.

    for_any_image: also None where they came from a file, which knows only its own images.
    Raises UserError where the checkpoint names anything but a source of detkit.
    """
    node = checkpoint["config"].get("proposal")
    if node is None or (for_any_image and node["_target_"] == FILE_SOURCE):
        return None
    if node["_target_"] not in (*SOURCES, FILE_SOURCE) or any(isinstance(value, Mapping) for value in node.values()):
        raise UserError(f"the checkpoint takes proposals from {node['_target_']}; to allow that, choose proposal=...")
    return build(node, "proposal")


def check_targets(config: Any, where: str = "config") -> None:
    """Raise UserError for a `_target_` outside the trusted packages, anywhere below `config`."""
    if isinstance(config, Mapping):
        target = config.get("_target_")
        if target is not None and not is_own_part(str(target)):
            raise UserError(f"{where}._target_={target}: only parts under {' and '.join(TRUSTED)} are built from here")
        for key, value in config.items():
            check_targets(value, f"{where}.{key}")
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            check_targets(value, f"{where}[{index}]")


def is_own_part(target: str) -> bool:
    """Whether `target` names a class or function that a trusted module defines itself.

    A prefix alone would not do: `detkit.model.detector.torch.hub.load` also begins with detkit.model.
    """
    module, _, name = target.rpartition(".")
    if not f"{module}.".startswith(TRUSTED):
        return False
    try:
        part = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return getattr(part, "__module__", None) == module


def _unfetched(model: Any) -> Any:
    """`without_pretrained`, but for names: whether a network of that name fits is known without its weights."""
    if isinstance(model, Mapping):
        known = without_pretrained(model)
        kept = {key: value for key, value in model.items() if isinstance(value, str) and not Path(value).is_file()}
        inner = {key: _unfetched(value) for key, value in model.items() if isinstance(value, (Mapping, list, tuple))}
        return {**known, **kept, **inner}
    return [_unfetched(value) for value in model] if isinstance(model, (list, tuple)) else model


def without_pretrained(model: Any) -> Any:
    """A copy of a model config that asks for no ImageNet weights."""
    if isinstance(model, Mapping):
        return {
            key: (False if isinstance(value, bool) else None) if key == "pretrained" else without_pretrained(value)
            for key, value in model.items()
        }
    return [without_pretrained(value) for value in model] if isinstance(model, (list, tuple)) else model
