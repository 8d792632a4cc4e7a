"""Starting from what another training, or another project, has learned: its model, its frame and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from torch import nn

from detkit.config import check_targets, without_pretrained
from detkit.errors import UserError

TAKEN = ("model", "preprocess")  # what a training takes from the checkpoint that it starts from


def settings_of(start: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a training from checkpoint `start` has from there.

    Raises UserError where the command line changes them, which would be of no effect, or the checkpoint names a part
    outside detkit.
    """
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    for override in given:
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if key.replace("/", ".").split(".")[0] in TAKEN:
            raise UserError(f"finetune=... takes {' and '.join(TAKEN)} from the checkpoint: drop {override}")
    model = without_pretrained(start["config"]["model"])
    check_targets(model)
    return {"model": model, "preprocess": start["preprocess"]}


def load_fitting(detector: nn.Module, start: Mapping[str, Any]) -> list[str]:
    """Fill `detector` with those weights of checkpoint `start` (averaged where kept) that have the shape of its own.

    Returns the names of the others: the layers whose size depends on the number of classes, which stay as they are.
    """
    weights = start["ema"] or start["model"]
    own = detector.state_dict()
    fitting = {name: weights[name] for name in own if name in weights and weights[name].shape == own[name].shape}
    detector.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]
