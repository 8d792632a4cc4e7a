"""Count the classes of a Darknet network, and change their number."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.core.errors import UserError
from detkit.model.class_rows import OTHER, labels_of_rows
from detkit.model.darknet.build_layer import HEADS
from detkit.model.darknet.section import Section, Sections, number_sections


def count_classes(sections: Sections) -> int:
    """Return the number of classes on which all head sections agree; raises UserError if they do not."""
    heads = [section for section in number_sections(sections)[1] if section.name in HEADS]
    counts = {own_classes(head) for head in heads}
    if len(counts) != 1:
        found = ", ".join(f"{head}: {head.word('classes', 'none')}" for head in heads) or "no head section"
        raise UserError(f"a detector has one number of classes, this Darknet network has not ({found})")
    return counts.pop()


def with_classes(sections: Sections, num_classes: int) -> list[tuple[str, dict[str, str]]]:
    """Change the number of classes: of head sections with another number, and of the layer before each."""
    changed = [(str(name), {key: str(value) for key, value in options.items()}) for name, options in sections]
    for head in number_sections(sections)[1]:
        if head.name not in HEADS:
            continue
        changed[head.index + 1][1]["classes"] = str(num_classes)
        name, options = changed[head.index]  # the section before: [net] is the first of the list
        key = {"convolutional": "filters", "conv": "filters", "connected": "output", "conn": "output"}.get(name)
        if key is None:
            raise head.error(f"before it must be a [convolutional] or [connected] section, not [{name}]")
        if own_classes(head) != num_classes:
            options[key] = str(num_outputs(head, num_classes))
    return changed


def own_classes(head: Section) -> int:
    """Return the number of classes of a head section."""
    return head.integer("classes", 1 if head.name == "detection" else 20)


def num_outputs(head: Section, num_classes: int) -> int:
    """Count the numbers that a head section reads: per cell, or of a [detection] section in all."""
    if head.name == "detection":
        boxes = head.integer("num", 1)
        return head.integer("side", 7) ** 2 * (num_classes + boxes * (1 + 4))
    return num_anchors(head) * (num_others(head) + num_classes)


def num_others(head: Section) -> int:
    """Count the numbers of an anchor before its classes: box and objectness, or with uncertainties."""
    return 9 if head.name == "Gaussian_yolo" else 5


def labels_of_outputs(head: Section, num_classes: int) -> Tensor:
    """List the class of each number that a head section reads, or OTHER: int64 [num_outputs]."""
    if head.name == "detection":
        classes = torch.arange(num_classes).repeat(head.integer("side", 7) ** 2)  # of all cells, before all boxes
        boxes = num_outputs(head, num_classes) - len(classes)
        return torch.cat([classes, torch.full((boxes,), OTHER)])
    return labels_of_rows(num_classes, others=num_others(head), anchors=num_anchors(head))


def num_anchors(head: Section) -> int:
    """Count the anchors per cell of a head section."""
    if head.name in ("yolo", "Gaussian_yolo") and "mask" in head.options:
        return len(head.integers("mask"))
    return head.integer("num", 1)
