"""Describe an exported file in its metadata, so that it is used without the training's config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from detkit.checkpoint.content import Checkpoint, Position
from detkit.config.aliases import renamed
from detkit.core import __version__
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.model.detector import Detector
from detkit.model.postprocess import NMSPostprocess

FORMAT = 2  # what is written; the first differs in nothing but the names that `aliases` knows
FORMATS = (1, 2)  # what is read
KEY = "detkit"  # of the one entry among the metadata of the file, which is JSON


class Thresholds(TypedDict):
    """What of a postprocess decides how many detections there are."""

    score_threshold: float
    nms_iou: float
    max_detections: int | None


class About(TypedDict):
    """What a written file says of itself; preprocess and proposal: config nodes. step: of the training."""

    format: int
    detkit_version: str
    model: str
    classes: list[str]
    preprocess: Settings
    thresholds: Thresholds
    weights_licence: str | None
    proposal: Settings | None
    step: int


def describe(detector: Detector, saved: Checkpoint, *, name: str, licence: str | None) -> str:
    """The JSON that goes with a detector, from the checkpoint that it was built of.

    name: of the model. licence: of the weights, None where it is not known.
    """
    settings = detector.get_submodule("postprocess")
    assert isinstance(settings, NMSPostprocess)
    about: About = {
        "format": FORMAT,
        "detkit_version": __version__,
        "model": name,
        "classes": list(saved.classes),
        "preprocess": detector.preprocess.to_dict(),
        "thresholds": {
            "score_threshold": settings.score_threshold,
            "nms_iou": settings.nms_iou,
            "max_detections": settings.max_detections,
        },
        "weights_licence": licence,
        "proposal": saved.proposal_config,
        "step": saved.step,
    }
    return json.dumps(about, ensure_ascii=False)


def read_content(text: str | None, path: Path) -> Checkpoint:
    """Read the checkpoint in the JSON of a written file; its graph is not yet in there.

    It comes from outside: what it names is built by `detkit.checkpoint.build`, which trusts only parts of detkit.
    Raises UserError where the file was not written by detkit, or by another version of the format.
    """
    try:
        about = json.loads(text or "")
    except ValueError as error:
        raise UserError(f"{path} was not written by detkit export: its metadata has no {KEY!r}") from error
    if not isinstance(about, dict) or about.get("format") not in FORMATS:
        read = " and ".join(map(str, FORMATS))
        raise UserError(f"{path} was written by another version of detkit export; this one reads format {read}")
    classes, preprocess = about.get("classes"), about.get("preprocess")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{path}: its metadata has no list of class names")
    if not isinstance(preprocess, dict) or "_target_" not in preprocess:
        raise UserError(f"{path}: its metadata has no preprocess of detkit")
    return Checkpoint(
        model={},
        config={"name": about.get("model"), "proposal": renamed(about.get("proposal"))},
        classes=classes,
        preprocess=renamed(preprocess),
        position=Position(step=int(about.get("step") or 0)),
    )
