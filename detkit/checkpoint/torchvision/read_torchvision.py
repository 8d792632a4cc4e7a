"""Read weights of a torchvision detector as a checkpoint for inference, evaluation and export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torchvision
from torch import Tensor

from detkit.checkpoint.build import without_pretrained
from detkit.checkpoint.content import Checkpoint, Weights
from detkit.checkpoint.torchvision.architecture import Architecture
from detkit.checkpoint.torchvision.convert import by_name, convert, recognise
from detkit.config.config_dir import config_dir
from detkit.config.node import plain
from detkit.config.overrides import config_loader, load_config
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.core.text_file import read_lines

# of the detectors that torchvision publishes: "background", 80 names and as many numbers without a meaning as make 91
COCO: list[str] = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
NO_CLASS = ("__background__", "N/A")


def read_torchvision(
    name: str, *, classes: Sequence[str] | None = None, weights: str | Weights = "DEFAULT"
) -> Checkpoint:
    """The checkpoint of a detector that torchvision publishes, by its name there.

    weights: what torchvision calls them, or a state dict. classes: as in `import_state`.
    `save_checkpoint(path, read_torchvision("retinanet_resnet50_fpn"))` writes a file that every verb reads.
    """
    architecture = by_name(name)
    if isinstance(weights, Mapping):
        return import_state(weights, architecture=architecture, classes=classes)
    chosen = torchvision.models.get_model_weights(name)[weights]
    try:
        state = chosen.get_state_dict(check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError, a hub that is offline a RuntimeError
        raise UserError(f"the weights of {name} could not be fetched ({type(error).__name__}: {error})") from error
    return import_state(state, architecture=architecture, classes=classes, exact_norms=True)


def read_state(state: Mapping[str, Tensor], path: Path) -> Checkpoint | None:
    """`import_state` for the weights in a file of torchvision's, or of a training with it; None for others.

    The class names are the lines of the file of the same stem that ends in `.names`, if there is one.
    """
    architecture = recognise(state, path.name)
    if architecture is None:
        return None
    names = path.with_suffix(".names")
    classes = read_lines(names) if names.is_file() else None
    published = {Path(weights.url).name for weights in torchvision.models.get_model_weights(architecture.name)}
    try:
        return import_state(state, architecture=architecture, classes=classes, exact_norms=path.name in published)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def import_state(
    state: Mapping[str, Tensor],
    *,
    architecture: Architecture | None = None,
    classes: Sequence[str] | None = None,
    exact_norms: bool = False,
) -> Checkpoint:
    """The checkpoint of a state dict: whose it is, is seen from its names.

    exact_norms: see `convert`; true of what torchvision publishes.
    classes: the names of their labels 1, 2, ...; None takes COCO's where there are 91 labels (the 80 that have a
    meaning: under a softmax the others leave their share to those), and numbers otherwise.
    Raises UserError where the state dict is no detector's, or the names are not as many as its classes.
    """
    architecture = architecture or recognise(state)
    if architecture is None:
        raise UserError("these weights belong to no detector of torchvision that detkit can be")
    count = architecture.num_columns(state)
    columns = list(range(1, count))
    if classes is None and count == len(COCO):
        columns = [column for column, label in enumerate(COCO) if label not in NO_CLASS]
        classes = [COCO[column] for column in columns]
    names = [str(label) for label in range(count - 1)] if classes is None else list(classes)
    if len(names) != len(columns):
        raise UserError(f"{len(names)} class names for {architecture.name} with {len(columns)} classes")
    model, preprocess = compose([*architecture.overrides, *architecture.details(state)])
    return Checkpoint(
        model=convert(architecture, state, columns=columns, exact_norms=exact_norms),
        config={"model": model},
        classes=names,
        preprocess=preprocess,
    )


def compose(overrides: Sequence[str]) -> tuple[Settings, Settings]:
    """`model` and `preprocess` of the training config under `overrides`, resolved."""
    loader = config_loader(str(config_dir()))
    config = load_config(loader, "train", list(overrides))
    return without_pretrained(plain(config.model)), plain(config.preprocess)
