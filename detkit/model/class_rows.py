"""Find which rows of a detector's weights belong to which class, to keep them when the classes change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

OTHER = -1  # the label of a row that belongs to no class: background, boxes, objectness


def labels_of_rows(num_classes: int, *, others: int = 0, values: int = 1, anchors: int = 1) -> Tensor:
    """List the class of each output of a layer that gives, per anchor, `others` numbers, then `values` per class.

    int64 [anchors * (others + num_classes * values)], OTHER where a number belongs to no class.
    """
    per_anchor = torch.cat([torch.full((others,), OTHER), torch.arange(num_classes).repeat_interleave(values)])
    return per_anchor.repeat(anchors)


def class_rows(model: nn.Module, num_classes: int) -> dict[str, Tensor]:
    """Find the class of each row (index of the first dimension) of every weight and buffer that has rows by class.

    {name in the state dict: int64 [rows]}, 0..num_classes-1 or OTHER, of a model like `model` with so many classes. A
    part that has such rows says so by a method `class_rows(num_classes)`, which names its layers or tensors; all
    tensors of a layer that it names are laid out alike.
    """
    names = [name for name, value in model.state_dict().items() if value.ndim > 0]
    found: dict[str, Tensor] = {}
    for prefix, part in model.named_modules():
        if callable(getattr(part, "class_rows", None)):
            for layer, labels in part.class_rows(num_classes).items():
                path = f"{prefix}.{layer}" if prefix else layer
                found |= {name: labels for name in names if name == path or name.startswith(f"{path}.")}
    return found


def move_rows(
    own: Tensor, given: Tensor, own_labels: Tensor, given_labels: Tensor, origin: Sequence[int | None]
) -> Tensor | None:
    """Copy into `own` [R, ...] the rows of `given` [R', ...] for every class that both have, and for OTHER.

    Returns a new tensor. origin: of each label of `own` its label in `given`, or None for a class that `given` does not
    know, whose rows stay. None if the two are not laid out alike: other anchors, other features.
    """
    if own.shape[1:] != given.shape[1:] or (len(own), len(given)) != (len(own_labels), len(given_labels)):
        return None
    moved = own.clone()
    for label, source in ((OTHER, OTHER), *enumerate(origin)):
        if source is not None:
            rows, sources = (own_labels == label).nonzero().flatten(), (given_labels == source).nonzero().flatten()
            if len(rows) != len(sources):
                return None
            moved[rows] = given[sources].to(own)
    return moved
