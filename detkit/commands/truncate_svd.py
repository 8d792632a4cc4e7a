"""Run `detkit truncate_svd`: compress the fully connected layers of a model by a truncated SVD."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from omegaconf import DictConfig

from detkit.checkpoint.build import build_from_checkpoint
from detkit.checkpoint.store import save_checkpoint
from detkit.core.errors import UserError
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.model.box_head import TwoFC
from detkit.run.own_folder import RUN, own_folder


class Truncated(TypedDict):
    """The path of a truncated checkpoint, and how many parameters its model had and has."""

    checkpoint: str
    parameters_before: int
    parameters_after: int


def run_truncate_svd(config: DictConfig) -> Truncated:
    """Write checkpoints/best.pt into `config.run_dir`.

    Raises UserError where the model of the checkpoint has no plain two_fc box head.
    """
    saved = load_checkpoint(config.checkpoint, trust=config.trust)
    detector = build_from_checkpoint(saved)
    box_head = getattr(getattr(detector, "roi_head", None), "box_head", None)
    if not isinstance(box_head, TwoFC) or saved.model_config["box_head"].get("ranks") is not None:
        raise UserError(f"{config.checkpoint}: its model has no plain fully connected layers (model/box_head=two_fc)")
    before = sum(parameter.numel() for parameter in detector.parameters())
    ranks = (int(config.ranks[0]), int(config.ranks[1]))
    box_head.truncate(ranks)
    after = sum(parameter.numel() for parameter in detector.parameters())
    settings = deepcopy(dict(saved.config))
    settings["model"]["box_head"]["ranks"] = list(ranks)
    truncated = replace(saved, model=detector.state_dict(), ema=None, config=settings, training=None)
    with own_folder(Path(config.run_dir), RUN) as folder:
        path = folder / "checkpoints" / "best.pt"
        save_checkpoint(path, truncated)
    print(f"{before / 1e6:.2f} M parameters became {after / 1e6:.2f} M\nwritten to {path}")
    return {"checkpoint": str(path), "parameters_before": before, "parameters_after": after}
