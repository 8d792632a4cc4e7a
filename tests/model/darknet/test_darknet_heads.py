"""What head sections say and what they learn, against loops over cells, anchors and objects."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from darknet_reference import sigmoid

from detkit.checkpoint.darknet.cfg import parse_cfg
from detkit.core.errors import UserError
from detkit.core.structures import Batch, Target
from detkit.image.preprocess import Warp
from detkit.model.darknet.detector import build_darknet
from detkit.model.one_stage import OneStageDetector
from detkit.model.postprocess import NMSPostprocess

CLASSES = 3
SIZE = (64, 96)
NET = "[net]\nwidth=96\nheight=64\n"
STRIDE16 = "[convolutional]\nfilters=4\nsize=3\nstride=16\npad=1\nactivation=leaky\n"
CONV = "[convolutional]\nfilters=16\nsize=1\nactivation={}\n"
ANCHORS = [(10, 14), (23, 27), (37, 58), (60, 40)]
YOLO = "[yolo]\nmask={}\nanchors=10,14, 23,27, 37,58, 60,40\nnum=4\nclasses=3\nignore_thresh=.4\nscale_x_y={}\n{}"
REGION = "[region]\nanchors=1,2, 3,1.5\nnum=2\nclasses=3\nthresh=.4\nobject_scale=5\ncoord_scale=2\nclass_scale=3\n{}"


def yolo(extra: str = "", activation: str = "linear", scales: tuple[float, float] = (1, 1)) -> OneStageDetector:
    """Anchors 2, 3 on 4x6 cells, anchors 0, 1 on 8x12 cells."""
    conv = CONV.format(activation)
    coarse = conv + YOLO.format("2,3", scales[0], extra)
    fine = "[route]\nlayers=0\n[upsample]\n" + conv + YOLO.format("0,1", scales[1], extra)
    return detector(NET + STRIDE16 + coarse + fine)


def region(extra: str = "") -> OneStageDetector:
    return detector(NET + STRIDE16 + CONV.format("linear") + REGION.format(extra))


def detection(extra: str = "") -> OneStageDetector:
    head = f"[detection]\nside=3\nnum=2\nclasses=3\ncoords=4\nobject_scale=2\nnoobject_scale=.5\ncoord_scale=5\n{extra}"
    return detector(NET + STRIDE16 + "[connected]\noutput=117\nactivation=linear\n" + head)


def detector(text: str) -> OneStageDetector:
    preprocess = Warp(height=SIZE[0], width=SIZE[1])
    return build_darknet(
        sections=parse_cfg(text), postprocess=NMSPostprocess(), num_classes=CLASSES, preprocess=preprocess
    )


def target(*objects: tuple[float, float, float, float, int], difficult: tuple[int, ...] = ()) -> Target:
    boxes = torch.tensor([item[:4] for item in objects], dtype=torch.float32).reshape(-1, 4)
    flags = torch.zeros(len(objects), dtype=torch.bool)
    flags[list(difficult)] = True
    return {
        "boxes": boxes,
        "labels": torch.tensor([item[4] for item in objects], dtype=torch.int64),
        "difficult": flags,
    }


def batch(*targets: Target) -> Batch:
    images = torch.zeros(len(targets), 3, *SIZE, dtype=torch.uint8)
    sizes = [SIZE] * len(targets)
    return Batch(images, sizes, sizes, [str(i) for i in range(len(targets))], list(targets))


def random_maps(model: OneStageDetector, count: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [model.backbone.shapes[index + 1] for index in model.backbone.heads]
    return [torch.randn(count, *shape, generator=generator) for shape in shapes]


SCENES = (
    target((4, 6, 40, 60, 2), (50, 10, 74, 36, 0), (51, 10, 75, 35, 1)),
    target(),
    target((1, 2, 12, 15, 1), (30, 20, 92, 62, 0), (60, 3, 84, 30, 2), difficult=(2,)),
)


def iou(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def iof(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / ((a[2] - a[0]) * (a[3] - a[1]))


def bce(logit: float, wanted: float) -> float:
    p = float(sigmoid(logit))
    return -wanted * math.log(p) - (1 - wanted) * math.log(1 - p)


def squared(logit: float, wanted: float) -> float:
    return (float(sigmoid(logit)) - wanted) ** 2 / 2


def rows_of(levels, maps, image: int):
    """(level, row, column, anchor index, anchor, its numbers) of every row; levels: (anchors by index, stride)."""
    for level, (anchors, _) in enumerate(levels):
        grid = maps[level][image].double().numpy().reshape(len(anchors), 5 + CLASSES, *maps[level].shape[2:])
        for j in range(grid.shape[2]):
            for i in range(grid.shape[3]):
                for a, (index, anchor) in enumerate(anchors.items()):
                    yield (
                        level,
                        j,
                        i,
                        index,
                        anchor,
                        grid[a, :, j, i],
                    )


YOLO_LEVELS = [({2: ANCHORS[2], 3: ANCHORS[3]}, 16), ({0: ANCHORS[0], 1: ANCHORS[1]}, 8)]
REGION_LEVELS = [({0: (16, 32), 1: (48, 24)}, 16)]


def anchored_box(i: int, j: int, anchor, numbers, stride: int, scale: float = 1.0, new: bool = False):
    """As yolo_layer.c and region_layer.c have it; with new_coords the numbers are probabilities already."""
    x, y = numbers[:2] if new else sigmoid(numbers[:2])
    x, y = (scale * value - 0.5 * (scale - 1) for value in (x, y))
    w, h = (numbers[2:4] ** 2 * 4 if new else np.exp(numbers[2:4])) * anchor
    cx, cy = (i + x) * stride, (j + y) * stride
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


@pytest.mark.parametrize(
    ("model", "scales", "new"),
    [
        (yolo(), (1, 1), False),
        (yolo(scales=(1.2, 1.05)), (1.2, 1.05), False),
        (yolo("new_coords=1\n", "logistic", (2, 2)), (2, 2), True),
    ],
    ids=["v3", "scale_x_y", "new_coords"],
)
def test_yolo_sections_say(model: OneStageDetector, scales, new: bool) -> None:
    maps = random_maps(model, 2)
    if new:
        maps = [one.sigmoid() for one in maps]
    boxes, scores = model.dense_head(maps, batch(target(), target()))
    for image in range(2):
        expected = [
            (anchored_box(i, j, anchor, v, YOLO_LEVELS[level][1], scales[level], new), v)
            for level, j, i, _, anchor, v in rows_of(YOLO_LEVELS, maps, image)
        ]
        np.testing.assert_allclose(boxes[image][:, 0], [box for box, _ in expected], rtol=1e-3, atol=1e-2)
        probability = [v[4] * v[5:] if new else sigmoid(v[4]) * sigmoid(v[5:]) for _, v in expected]
        np.testing.assert_allclose(scores[image], probability, atol=1e-5)


@pytest.mark.parametrize("softmax", [0, 1])
def test_region_sections_say(softmax: int) -> None:
    model = region(f"softmax={softmax}\n")
    maps = random_maps(model, 1)
    boxes, scores = model.dense_head(maps, batch(target()))
    expected = [(anchored_box(i, j, anchor, v, 16), v) for _, j, i, _, anchor, v in rows_of(REGION_LEVELS, maps, 0)]
    np.testing.assert_allclose(boxes[0][:, 0], [box for box, _ in expected], rtol=1e-4, atol=1e-3)
    classes = [np.exp(v[5:]) / np.exp(v[5:]).sum() if softmax else sigmoid(v[5:]) for _, v in expected]
    np.testing.assert_allclose(
        scores[0], [sigmoid(v[4]) * p for (_, v), p in zip(expected, classes, strict=True)], atol=1e-5
    )


@pytest.mark.parametrize("sqrt", [0, 1])
def test_detection_sections_say(sqrt: int) -> None:
    model = detection(f"sqrt={sqrt}\n")
    (numbers,) = random_maps(model, 1)
    boxes, scores = model.dense_head([numbers], batch(target()))
    v, side, n = numbers[0].flatten().double().numpy(), 3, 2
    for i in range(side * side):
        for j in range(n):
            confidence = v[side * side * CLASSES + i * n + j]
            x, y, w, h = v[side * side * (CLASSES + n) + (i * n + j) * 4 :][:4]
            cx, cy = (i % side + x) / side * SIZE[1], (i // side + y) / side * SIZE[0]
            w, h = ((w * w, h * h) if sqrt else (max(w, 0), max(h, 0))) * np.array([SIZE[1], SIZE[0]])
            expected = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            np.testing.assert_allclose(boxes[0][i * n + j, 0], expected, rtol=1e-4, atol=1e-3)
            probability = np.clip(confidence * v[i * CLASSES : (i + 1) * CLASSES], 0, 1)
            np.testing.assert_allclose(scores[0][i * n + j], probability, atol=1e-5)


def assigned(levels, rows, boxes, objects: Target, ignore: float):
    """Per row the object it answers for, -1 for background, -2 where nothing is said."""
    shapes = {index: anchor for anchors, _ in levels for index, anchor in anchors.items()}
    found = []
    for box in boxes:
        overlap = max([iou(box, t) for t in objects["boxes"].tolist()], default=0)
        hard = [t for t, d in zip(objects["boxes"].tolist(), objects["difficult"].tolist(), strict=True) if d]
        found.append(-2 if overlap > ignore or any(iof(box, t) >= 0.5 for t in hard) else -1)
    places = [(level, j, i, index) for level, j, i, index, _, _ in rows]
    for m, (x1, y1, x2, y2) in enumerate(objects["boxes"].tolist()):
        w, h = x2 - x1, y2 - y1
        best = max(shapes, key=lambda k: iou([0, 0, w, h], [0, 0, *shapes[k]]))
        level = next(n for n, (anchors, _) in enumerate(levels) if best in anchors)
        stride = levels[level][1]
        row = places.index((level, int((y1 + y2) / 2 // stride), int((x1 + x2) / 2 // stride), best))
        if objects["difficult"][m]:
            found[row] = -2 if found[row] < 0 else found[row]
        else:
            found[row] = m
    return found


def anchored_loss(
    levels, maps, scales, *, new=False, ignore=0.4, softmax=False, rescore=False, weights=(1, 1, 1, 1), error=bce
):
    """Summed terms over SCENES: box, objectness, class; weights: of objects, background, classes, boxes.

    error: of the logit of a place or an objectness.
    """
    terms = np.zeros(3)
    for image, objects in enumerate(SCENES):
        rows = list(rows_of(levels, maps, image))
        boxes = [
            anchored_box(i, j, anchor, v, levels[level][1], scales[level], new) for level, j, i, _, anchor, v in rows
        ]
        for (level, j, i, _, anchor, v), box, m in zip(
            rows, boxes, assigned(levels, rows, boxes, objects, ignore), strict=True
        ):
            logits = np.log(v / (1 - v)) if new else v
            if m == -1:
                terms[1] += weights[1] * error(logits[4], 0)
            if m < 0:
                continue
            x1, y1, x2, y2 = truth = objects["boxes"][m].tolist()
            stride, scale, label = levels[level][1], scales[level], int(objects["labels"][m])
            small = 2 - (x2 - x1) * (y2 - y1) / (SIZE[0] * SIZE[1])
            for axis, (low, high) in enumerate(((x1, x2), (y1, y2))):
                place = ((low + high) / 2 / stride - (i, j)[axis] + (scale - 1) / 2) / scale
                growth = (high - low) / anchor[axis]
                wanted = math.log(math.sqrt(growth) / 2 / (1 - math.sqrt(growth) / 2)) if new else math.log(growth)
                terms[0] += weights[3] * small * (error(logits[axis], place) + (logits[2 + axis] - wanted) ** 2 / 2)
            terms[1] += weights[0] * error(logits[4], iou(box, truth) if rescore else 1)
            if softmax:
                terms[2] -= weights[2] * math.log(np.exp(logits[5 + label]) / np.exp(logits[5:]).sum())
            else:
                terms[2] += weights[2] * sum(bce(logits[5 + c], float(c == label)) for c in range(CLASSES))
    return terms / len(SCENES)


@pytest.mark.parametrize(
    ("model", "scales", "new"),
    [
        (yolo(), (1, 1), False),
        (yolo(scales=(1.2, 1.05)), (1.2, 1.05), False),
        (yolo("new_coords=1\n", "logistic", (2, 2)), (2, 2), True),
    ],
    ids=["v3", "scale_x_y", "new_coords"],
)
def test_yolo_sections_learn(model: OneStageDetector, scales, new: bool) -> None:
    maps = random_maps(model, len(SCENES), seed=1)
    if new:
        maps = [one.sigmoid() for one in maps]
    found = model.dense_head.loss(maps, batch(*SCENES))
    expected = anchored_loss(YOLO_LEVELS, maps, scales, new=new)
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-3)


@pytest.mark.parametrize(("softmax", "rescore"), [(0, 0), (1, 1)])
def test_region_sections_learn(softmax: int, rescore: int) -> None:
    model = region(f"softmax={softmax}\nrescore={rescore}\n")
    maps = random_maps(model, len(SCENES), seed=2)
    found = model.dense_head.loss(maps, batch(*SCENES))
    options = {"softmax": bool(softmax), "rescore": bool(rescore), "weights": (5, 1, 3, 2), "error": squared}
    np.testing.assert_allclose(list(found.values()), anchored_loss(REGION_LEVELS, maps, (1,), **options), rtol=1e-3)


@pytest.mark.parametrize(("sqrt", "rescore"), [(1, 1), (0, 0)])
def test_detection_sections_learn(sqrt: int, rescore: int) -> None:
    model = detection(f"sqrt={sqrt}\nrescore={rescore}\n")
    (numbers,) = random_maps(model, len(SCENES), seed=3)
    found = model.dense_head.loss([numbers], batch(*SCENES))
    boxes, _ = model.dense_head([numbers], batch(*SCENES))
    side, n, terms = 3, 2, np.zeros(3)
    for image, objects in enumerate(SCENES):
        v = numbers[image].flatten().double().numpy()
        classes = v[: side * side * CLASSES].reshape(-1, CLASSES)
        confidence = v[side * side * CLASSES :][: side * side * n].reshape(-1, n)
        raw = v[side * side * (CLASSES + n) :].reshape(-1, n, 4)
        for i in range(side * side):
            inside = [
                m
                for m, (x1, y1, x2, y2) in enumerate(objects["boxes"].tolist())
                if i == int((y1 + y2) / 2 / SIZE[0] * side) * side + int((x1 + x2) / 2 / SIZE[1] * side)
            ]
            easy = [m for m in inside if not objects["difficult"][m]]
            if inside and not easy:
                continue
            terms[1] += sum(0.5 * confidence[i] ** 2)
            if not easy:
                continue
            truth, label = objects["boxes"][easy[0]].tolist(), int(objects["labels"][easy[0]])
            terms[2] += sum((float(c == label) - classes[i, c]) ** 2 for c in range(CLASSES))
            said = [boxes[image][i * n + j, 0].tolist() for j in range(n)]
            overlaps = [iou(box, truth) for box in said]
            best = int(np.argmax(overlaps)) if max(overlaps) > 0 else int(np.argmin([gap(box, truth) for box in said]))
            terms[1] += (
                2 * ((overlaps[best] if rescore else 1) - confidence[i, best]) ** 2 - 0.5 * confidence[i, best] ** 2
            )
            x, y = (truth[0] + truth[2]) / 2 / SIZE[1] * side, (truth[1] + truth[3]) / 2 / SIZE[0] * side
            w, h = (truth[2] - truth[0]) / SIZE[1], (truth[3] - truth[1]) / SIZE[0]
            wanted = [x % 1, y % 1, *((math.sqrt(w), math.sqrt(h)) if sqrt else (w, h))]
            terms[0] += 5 * sum((a - b) ** 2 for a, b in zip(wanted, raw[i, best], strict=True))
    np.testing.assert_allclose(list(found.values()), terms / len(SCENES) / 2, rtol=1e-3)


def gap(a, b) -> float:
    """Squared distance of centres and sizes, as shares of the canvas."""

    def shares(box):
        (x1, x2), (y1, y2) = ((box[i] / SIZE[1 - i], box[i + 2] / SIZE[1 - i]) for i in (0, 1))
        return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]

    return sum((x - y) ** 2 for x, y in zip(shares(a), shares(b), strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NET + STRIDE16, "no section of this network detects"),
        (NET + STRIDE16 + YOLO.format("0", 1, ""), r"section 1 \[yolo\]: its input has 4 numbers, it reads 8"),
        (NET + "[maxpool]\n" + REGION.format(""), r"section 1 \[region\]: before it must be a \[convolutional\]"),
        (NET + CONV.format("linear") + YOLO.format("0,4", 1, ""), r"mask=\[0, 4\] and num=4 do not fit 4 anchors"),
        (NET + STRIDE16 + REGION.format("background=1\n"), r"background=1 is not supported"),
        (NET + 2 * (CONV.format("linear") + REGION.format("")), r"only \[yolo\] or \[Gaussian_yolo\] may be several"),
        (NET + STRIDE16 + "[avgpool]\n" + CONV.format("linear") + "[detection]\nside=3\n", None),
        (NET + STRIDE16 + CONV.format("linear") + "[detection]\nside=2\n", r"section 2 \[detection\]: its input has"),
        (
            "[convolutional]\n",
            r"begins with \[net\], not with section -1|begins with \[net\], not with \[convolutional\]",
        ),
        ("[net]\nwidth=64\nheight=64\nchannels=1\n" + STRIDE16, r"\[net\]: channels=1"),
    ],
)
def test_heads_that_do_not_fit_are_named(text: str, message: str | None) -> None:
    if message is None:
        detector(text)
        return
    with pytest.raises(UserError, match=message):
        detector(text)
