from __future__ import annotations

import math

import pytest
import torch

from detkit.core.structures import Target
from detkit.ops.assign.match import IGNORE, NEGATIVE
from detkit.ops.assign.objects import objects_of
from detkit.ops.assign.simota import assign_simota

CLASSES = 3


def points_of(size: int, strides: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    points, steps = [], []
    for stride in strides:
        for row in range(size // stride):
            for column in range(size // stride):
                points.append([(column + 0.5) * stride, (row + 0.5) * stride])
                steps.append(float(stride))
    return torch.tensor(points), torch.tensor(steps)


def assign(values: dict[str, torch.Tensor], **settings: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`assign_simota` of one image."""
    target: Target = {key: values[key] for key in ("boxes", "labels", "difficult")}  # type: ignore[assignment]
    matches, iou = assign_simota(
        values["points"],
        values["strides"],
        values["predicted"][None],
        values["scores"][None],
        objects_of([target]),
        **settings,  # type: ignore[arg-type]
    )
    return matches[0], iou[0]


def case(seed: int, num_objects: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    points, strides = points_of(64, (8, 16))
    corner = torch.rand(num_objects, 2) * 40
    boxes = torch.cat([corner, corner + 6 + torch.rand(num_objects, 2) * 30], dim=1).clamp(max=64)
    half = strides[:, None] * (0.5 + torch.rand(len(points), 2))
    centre = points + torch.randn(len(points), 2) * 4
    return {
        "points": points,
        "strides": strides,
        "predicted": torch.cat([centre - half, centre + half], dim=1),
        "scores": torch.rand(len(points), CLASSES) * 0.98 + 0.01,
        "boxes": boxes,
        "labels": torch.randint(0, CLASSES, (num_objects,)),
        "difficult": torch.zeros(num_objects, dtype=torch.bool),
    }


def brute_force(values: dict[str, torch.Tensor], radius: float, num_candidates: int) -> list[int]:
    """The object of each point, by loops over points and objects."""
    columns = ("points", "strides", "predicted", "scores", "boxes", "labels")
    points, strides, predicted, scores, boxes, labels = (values[key].tolist() for key in columns)
    wishes: dict[int, list[tuple[float, int]]] = {}
    for m, (x1, y1, x2, y2) in enumerate(boxes):
        costs, ious = [], []
        for n, (x, y) in enumerate(points):
            inside = x1 < x < x2 and y1 < y < y2
            reach = radius * strides[n]
            near = abs(x - (x1 + x2) / 2) < reach and abs(y - (y1 + y2) / 2) < reach
            if not (inside or near):
                continue
            px1, py1, px2, py2 = predicted[n]
            common = max(0, min(x2, px2) - max(x1, px1)) * max(0, min(y2, py2) - max(y1, py1))
            iou = common / ((x2 - x1) * (y2 - y1) + (px2 - px1) * (py2 - py1) - common)
            cost = 0.0 if inside and near else 1e5
            for c in range(CLASSES):
                p = math.sqrt(scores[n][c])
                cost -= math.log(p) if c == labels[m] else math.log(1 - p)
            costs.append((cost - 3 * math.log(iou + 1e-8), n))
            ious.append(iou)
        k = max(1, int(sum(sorted(ious, reverse=True)[:num_candidates])))
        for cost, n in sorted(costs)[:k]:
            wishes.setdefault(n, []).append((cost, m))
    return [min(wishes[n])[1] if n in wishes else NEGATIVE for n in range(len(points))]


@pytest.mark.parametrize("seed", range(6))
def test_against_loops(seed: int) -> None:
    values = case(seed, 1 + 2 * seed)
    matches, iou = assign(values, radius=1.5, num_candidates=6)
    assert matches.tolist() == brute_force(values, 1.5, 6)
    assert (matches >= 0).any() and (iou[matches < 0] == 0).all()


def test_difficult_objects_take_no_point_and_are_no_background() -> None:
    values = case(1, 4)
    values["difficult"][2] = True
    matches, _ = assign(values)
    x1, y1, x2, y2 = values["boxes"][2].tolist()
    within = [x1 < x < x2 and y1 < y < y2 for x, y in values["points"].tolist()]
    assert 2 not in matches.tolist() and NEGATIVE not in matches[torch.tensor(within)].tolist()
    assert IGNORE in matches.tolist()


def test_nothing_to_assign() -> None:
    values = case(0, 0)
    matches, iou = assign(values)
    assert (matches == NEGATIVE).all() and (iou == 0).all()
    values = case(0, 2)
    values["difficult"][:] = True
    assert set(assign(values)[0].tolist()) <= {NEGATIVE, IGNORE}
    none = {
        key: value[:0] if key in ("points", "strides", "predicted", "scores") else value
        for key, value in values.items()
    }
    assert assign(none)[0].shape == (0,)


def test_an_object_between_all_points_still_finds_one() -> None:
    points, strides = points_of(64, (32,))
    values = {
        "points": points, "strides": strides, "predicted": torch.tensor([[0.0, 0, 8, 8]]).repeat(4, 1),
        "scores": torch.full((4, 3), 0.5), "boxes": torch.tensor([[30.0, 30, 33, 33]]),
        "labels": torch.tensor([0]), "difficult": torch.tensor([False]),
    }  # fmt: skip
    assert (assign(values)[0] == 0).sum() == 1
