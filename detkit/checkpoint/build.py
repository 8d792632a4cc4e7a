"""Build detectors from resolved configs and from checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, overload

import torch
from torch import nn

from detkit.checkpoint.content import Checkpoint, Weights
from detkit.checkpoint.trust import check_targets, names_of
from detkit.config.instantiate import build, check_part, complete
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.core.structures import ProposalSource
from detkit.core.weight_file import without_wrappers
from detkit.data.proposals import Proposals
from detkit.image.preprocess import Preprocess
from detkit.model.detector import Detector
from detkit.model.graph_detector import GraphDetector

# What a checkpoint may name to propose regions with; the first ones propose for any image.
SOURCES = ("detkit.proposal.selective_search.SelectiveSearch", "detkit.proposal.trained_rpn.TrainedRPN")
FILE_SOURCE = "detkit.proposal.proposal_file.read_proposals"


def build_preprocess(config: Settings, trust: Sequence[str] = ()) -> Preprocess:
    """The preprocess that a config node or a checkpoint describes by `_target_` and values; trust: see there."""
    check_targets(config, trust, "preprocess")
    preprocess: Preprocess = build(config, "preprocess")
    return preprocess


def build_detector(model: Settings, num_classes: int, preprocess: Preprocess) -> Detector:
    """The detector of a `model` config node for `num_classes` classes; raises UserError where its parts do not fit."""
    parts = build(model, "model", _partial_=True)
    detector: Detector = complete(parts, "model", num_classes=num_classes, preprocess=preprocess)
    return detector


def check_assembly(settings: Settings) -> Detector:
    """The model of a resolved config of a training, without memory for its weights: a matter of a second.

    No weights are made or fetched, no data are read. Raises UserError where it cannot be put together.
    """
    for key in ("proposal", "multi_image", "augment", "optimizer", "schedule"):
        if settings.get(key) is not None:
            check_part(settings[key], key)
    with torch.device("meta"):
        return build_detector(settings["model"], 2, build(settings["preprocess"], "preprocess"))


def build_from_checkpoint(checkpoint: Checkpoint) -> Detector:
    """The detector of a checkpoint with its weights (EMA where kept), in eval mode; nothing is downloaded.

    Raises UserError where the checkpoint names a part outside detkit that was not trusted as it was loaded, or its
    weights do not fit its config.
    """
    detector = _assemble(checkpoint)
    if checkpoint.graph is None:
        load_weights(detector, checkpoint.weights)
    return detector.eval()


def model_without_weights(checkpoint: Checkpoint) -> Detector:
    """The model of a checkpoint, of whose weights nothing is read: what it is, in a second. Raises UserError."""
    with torch.device("meta"):
        return _assemble(checkpoint)


def _assemble(checkpoint: Checkpoint) -> Detector:
    """The detector of a checkpoint before its weights are in it."""
    num_classes, trust, graph = len(checkpoint.classes), checkpoint.trust, checkpoint.graph
    if graph is not None:
        return GraphDetector(graph, num_classes=num_classes, preprocess=build_preprocess(checkpoint.preprocess, trust))
    model = without_pretrained(checkpoint.model_config)
    check_targets(model, trust, "model")
    return build_detector(model, num_classes, build_preprocess(checkpoint.preprocess, trust))


def load_weights(detector: nn.Module, weights: Weights) -> None:
    """Fill a detector with all its weights, in place; raises UserError naming those that do not fit."""
    try:
        detector.load_state_dict(without_wrappers(weights, detector.state_dict()))
    except RuntimeError as error:
        found = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(
            f"the weights of the checkpoint do not fit the model in its config: {'; '.join(found)[:500]}"
        ) from error


def with_inference_settings(checkpoint: Checkpoint, *, preprocess: Settings, postprocess: Settings) -> Checkpoint:
    """A copy of a checkpoint with other settings (`configs/inference.yaml`), where those are not None.

    preprocess: `side`, as of `Preprocess.at`, and `decode`. postprocess: arguments of the model's postprocess.
    Raises UserError for a side that is none, and for an exported file, which has its settings inside.
    """
    before = {key: value for key, value in preprocess.items() if value is not None}
    after = {key: value for key, value in postprocess.items() if value is not None}
    if not before and not after:
        return checkpoint
    given = [f"{part}.{key}" for part, keys in (("preprocess", before), ("postprocess", after)) for key in keys]
    if checkpoint.graph is not None:
        raise UserError(f"{', '.join(given)}: an exported file has its settings inside; give them to detkit export")
    side = before.pop("side", None)
    if side is not None and (not isinstance(side, int) or side < 1):
        raise UserError(f"preprocess.side={side}: a number of pixels, above 0")
    seen = build_preprocess({**checkpoint.preprocess, **before}, checkpoint.trust)
    said = checkpoint.tested_as
    return checkpoint.tested_with(
        preprocess=(seen if side is None else seen.at(side)).to_dict(),
        postprocess={**checkpoint.model_config["postprocess"], **after},
        tested_as=None if said is None else f"{said}; but for {', '.join(given)}",
    )


@overload
def build_source(checkpoint: Checkpoint, *, for_any_image: Literal[True]) -> ProposalSource | None: ...


@overload
def build_source(checkpoint: Checkpoint, *, for_any_image: Literal[False]) -> ProposalSource | Proposals | None: ...


def build_source(checkpoint: Checkpoint, *, for_any_image: bool) -> ProposalSource | Proposals | None:
    """What proposed the regions that the detector of a checkpoint learnt from; None where it proposes them itself.

    for_any_image: also None where they came from a file, which knows only its own images.
    Raises UserError where the checkpoint names anything but a source of detkit, or one that was trusted.
    """
    node = checkpoint.proposal_config
    if node is None or (for_any_image and node["_target_"] == FILE_SOURCE):
        return None
    check_source(node, checkpoint.trust)
    source: ProposalSource | Proposals = build(node, "proposal")
    return source


def check_source(node: Settings, trust: Sequence[str]) -> None:
    """Raise UserError where a source of regions that a checkpoint names is neither detkit's nor trusted."""
    target = str(node["_target_"])
    if target in (*SOURCES, FILE_SOURCE) and not any(isinstance(value, Mapping) for value in node.values()):
        return
    if not names_of(trust):
        raise UserError(
            f"the checkpoint takes proposals from {target}; to allow that, choose proposal=..., or add "
            f"trust=[{target.partition('.')[0]}]"
        )
    check_targets(node, trust, "proposal")


@overload
def without_pretrained(model: Settings) -> dict[str, object]: ...


@overload
def without_pretrained(model: object) -> object: ...


def without_pretrained(model: object) -> object:
    """A copy of a model config that asks for no ImageNet weights."""
    if isinstance(model, Mapping):
        return {
            key: (False if isinstance(value, bool) else None) if key == "pretrained" else without_pretrained(value)
            for key, value in model.items()
        }
    return [without_pretrained(value) for value in model] if isinstance(model, (list, tuple)) else model
