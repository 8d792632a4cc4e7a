"""What head sections say at any side, with uncertainties, and by which losses they learn; and what older ones meant."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from darknet_reference import sigmoid
from scenes import scene
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

from detkit.checkpoint.darknet.cfg import parse_cfg
from detkit.core.errors import UserError
from detkit.core.structures import Batch, Target
from detkit.image.preprocess import Warp
from detkit.infer.loaded_detector import LoadedDetector
from detkit.model.darknet.detector import build_darknet
from detkit.model.one_stage import OneStageDetector
from detkit.model.postprocess import NMSPostprocess

CANVAS = (70, 105)  # 5 x 7 cells of 14 x 15 pixels behind a stride of 16
CONV = "[convolutional]\nfilters={}\nsize=3\nstride={}\npad=1\nactivation=linear\n"
ANCHORS = [(10, 14), (23, 27), (40, 30)]
YOLO = "[yolo]\nmask=0,2\nanchors=10,14, 23,27, 40,30\nnum=3\nclasses=2\nscale_x_y=1.2\nignore_thresh=.4\n{}"
REGION = "[region]\nanchors=1,2, 3,1.5\nnum=2\nclasses=2\n"
GAUSSIAN = YOLO.replace("[yolo]", "[Gaussian_yolo]")


def detector(head: str, filters: int = 14, canvas: tuple[int, int] = CANVAS, revision: int = 2) -> OneStageDetector:
    net = f"[net]\nwidth={canvas[1]}\nheight={canvas[0]}\n"
    return build_darknet(
        sections=parse_cfg(net + CONV.format(4, 16) + CONV.format(filters, 1) + head),
        postprocess=NMSPostprocess(),
        num_classes=2,
        preprocess=Warp(height=canvas[0], width=canvas[1]),
        revision=revision,
    )


def batch(*objects: tuple[float, ...], canvas: tuple[int, int] = CANVAS) -> Batch:
    target: Target = {
        "boxes": torch.tensor([item[:4] for item in objects], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([int(item[4]) for item in objects], dtype=torch.int64),
        "difficult": torch.zeros(len(objects), dtype=torch.bool),
    }
    return Batch(torch.zeros(1, 3, *canvas, dtype=torch.uint8), [canvas], [canvas], ["0"], [target])


def rows_of(grid: torch.Tensor, count: int, anchors: int = 2):
    """(row, column, anchor, its numbers) of every row, from a map [anchors * count, H, W]."""
    values = grid.double().numpy().reshape(anchors, count, *grid.shape[1:])
    for j in range(grid.shape[1]):
        for i in range(grid.shape[2]):
            for a in range(anchors):
                yield j, i, a, values[a, :, j, i]


def box_of(x: float, y: float, w: float, h: float) -> list[float]:
    """Corners in pixels of a box in shares of the picture, as Darknet has them."""
    return [(x - w / 2) * CANVAS[1], (y - h / 2) * CANVAS[0], (x + w / 2) * CANVAS[1], (y + h / 2) * CANVAS[0]]


def yolo_box(j: int, i: int, a: int, numbers, shape: tuple[int, int]) -> list[float]:
    x, y = 1.2 * sigmoid(numbers[0]) - 0.1, 1.2 * sigmoid(numbers[1]) - 0.1
    w, h = (math.exp(t) * side for t, side in zip(numbers[2:4], ANCHORS[(0, 2)[a]], strict=True))
    return box_of((i + x) / shape[1], (j + y) / shape[0], w / CANVAS[1], h / CANVAS[0])


def maps_of(model: OneStageDetector, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, *model.backbone.shapes[-1], generator=generator)]


def test_yolo_boxes_are_shares_of_a_canvas_that_the_strides_do_not_divide() -> None:
    model = detector(YOLO.format(""))
    (grid,) = maps_of(model)
    assert grid.shape[2:] == (5, 7)
    boxes, _ = model.dense_head([grid], batch())
    expected = [yolo_box(j, i, a, v, (5, 7)) for j, i, a, v in rows_of(grid[0], 7)]
    np.testing.assert_allclose(boxes[0, :, 0], expected, rtol=1e-4, atol=1e-3)


def test_region_boxes_are_shares_of_a_canvas_that_the_strides_do_not_divide() -> None:
    model = detector(REGION)
    (grid,) = maps_of(model)
    boxes, _ = model.dense_head([grid], batch())
    expected = []
    for j, i, a, v in rows_of(grid[0], 7):
        w, h = math.exp(v[2]) * (1, 3)[a], math.exp(v[3]) * (2, 1.5)[a]
        expected.append(box_of((i + sigmoid(v[0])) / 7, (j + sigmoid(v[1])) / 5, w / 7, h / 5))
    np.testing.assert_allclose(boxes[0, :, 0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("head", [YOLO.format(""), REGION])
def test_the_cell_of_an_object_is_found_at_any_side(head: str) -> None:
    """What is taught is what is said: rows that say the objects exactly have no error of their boxes."""
    model = detector(head)
    numbers = torch.zeros(1, *model.backbone.shapes[-1], requires_grad=True)
    # the last column and row of cells, which whole pixels of a stride would put outside the grid or in another cell
    objects = batch((91, 57, 104, 69, 1), (2, 3, 12, 12, 0))
    optimizer = torch.optim.Adam([numbers], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        sum(model.dense_head.loss([numbers], objects).values()).backward()
        optimizer.step()
    boxes, scores = model.dense_head([numbers], objects)
    best = scores[0].max(dim=1).values.topk(2).indices
    found = boxes[0, best.sort().values, 0].detach()
    torch.testing.assert_close(found, objects.targets[0]["boxes"].flip(0), atol=0.3, rtol=0)


def test_old_checkpoints_keep_their_cells_and_losses() -> None:
    old, new = (detector(YOLO.format("iou_loss=ciou\n"), revision=revision) for revision in (1, 2))
    plain = detector(YOLO.format(""), revision=1)
    maps, objects = maps_of(old), batch((20, 10, 60, 40, 1))
    was, now = (model.dense_head(maps, objects)[0] for model in (old, new))
    centres = (was[..., :2] + was[..., 2:]) / 2
    for (j, i, _, v), centre in zip(rows_of(maps[0][0], 7), centres[0, :, 0].tolist(), strict=True):
        expected = [(i + 1.2 * sigmoid(v[0]) - 0.1) * 15, (j + 1.2 * sigmoid(v[1]) - 0.1) * 15]  # 105 // 7, both ways
        np.testing.assert_allclose(centre, expected, rtol=1e-4)
    assert not torch.allclose(was, now)
    assert old.dense_head.loss(maps, objects) == plain.dense_head.loss(maps, objects)
    assert old.dense_head.loss(maps, objects)["box"] != new.dense_head.loss(maps, objects)["box"]


def test_gaussian_sections_say_how_sure_they_are() -> None:
    model = detector(GAUSSIAN.format(""), filters=22)
    (grid,) = maps_of(model)
    boxes, scores = model.dense_head([grid], batch())
    for row, (j, i, a, v) in enumerate(rows_of(grid[0], 11)):
        np.testing.assert_allclose(boxes[0, row, 0], yolo_box(j, i, a, v[[0, 2, 4, 6]], (5, 7)), rtol=1e-4, atol=1e-3)
        sure = 1 - np.mean([sigmoid(v[place]) for place in (1, 3, 5, 7)])
        np.testing.assert_allclose(scores[0, row], sigmoid(v[8]) * sigmoid(v[9:]) * sure, atol=1e-5)


def test_gaussian_sections_start_with_few_objects_and_other_classes_fit() -> None:
    model = detector(GAUSSIAN.format("").replace("classes=2", "classes=5"), filters=3 * 10)
    assert model.backbone.shapes[-1][0] == 2 * (9 + 2)
    bias = model.backbone.layers[-2].conv.bias.view(2, 11)
    assert (bias[:, 8] < -4).all() and (bias[:, :8] == 0).all() and (bias[:, 9:] == 0).all()
    (rows,) = model.backbone.class_rows(2).values()
    assert rows.view(2, 11)[0, 9:].tolist() == [0, 1] and (rows.view(2, 11)[:, :9] == rows[0]).all()


EVERY_LAYER = (
    "[net]\nwidth=100\nheight=100\n[crop]\ncrop_width=100\ncrop_height=100\n"
    + (CONV.format(8, 4) + CONV.format(8, 1) + CONV.format(8, 1) + "share_index=-1\ndilation=2\n")
    + "[avgpool]\n[convolutional]\nfilters=8\n[scale_channels]\nfrom=-3\n[sam]\nfrom=2\n[reorg3d]\nstride=1\n"
    + ("[local]\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=leaky\n" + CONV.format(22, 1) + GAUSSIAN.format(""))
)


@pytest.mark.slow
def test_onnx_has_every_layer() -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    image = scene(0, 3)[0].permute(1, 2, 0).numpy()
    found = []
    for runtime in ("eager", "onnx"):
        torch.manual_seed(0)
        model = build_darknet(
            sections=parse_cfg(EVERY_LAYER),
            postprocess=NMSPostprocess(score_threshold=0.01),
            num_classes=2,
            preprocess=Warp(height=100, width=100),
            revision=2,
        )
        torch.nn.init.normal_(model.backbone.layers[-2].conv.weight)
        found.append(LoadedDetector(model, classes=["a", "b"], device="cpu", runtime=runtime).predict(image))
    assert len(found[0]) > 10 and found[0].labels.tolist() == found[1].labels.tolist()
    torch.testing.assert_close(found[0].boxes, found[1].boxes, atol=0.01, rtol=0)


def test_gaussian_sections_do_not_learn() -> None:
    model = detector(GAUSSIAN.format(""), filters=22)
    with pytest.raises(UserError, match=r"section 2 \[Gaussian_yolo\]: it predicts, but cannot be trained"):
        model.dense_head.loss(maps_of(model), batch((20, 10, 60, 40, 1)))


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("giou", generalized_box_iou_loss),
        ("ciou", complete_box_iou_loss),
        ("iou", lambda found, wanted: 1 - _iou(found[0].tolist(), wanted[0].tolist())),
    ],
)
def test_boxes_learn_by_iou_loss_and_terms_by_their_normalizers(kind: str, loss) -> None:
    weights = "iou_normalizer=.07\nobj_normalizer=.4\ncls_normalizer=.5\n"
    plain, model = detector(YOLO.format("")), detector(YOLO.format(f"iou_loss={kind}\n{weights}"))
    maps, objects = maps_of(model), batch((20, 10, 60, 40, 1))
    before, found = (one.dense_head.loss(maps, objects) for one in (plain, model))
    torch.testing.assert_close(found["objectness"], 0.4 * before["objectness"])
    torch.testing.assert_close(found["class"], 0.5 * before["class"])
    # the centre (40, 25) lies in column 2 and row 1, and of the anchors 40 x 30 fits: the second of the mask
    numbers = next(v for j, i, a, v in rows_of(maps[0][0], 7) if (j, i, a) == (1, 2, 1))
    said = torch.tensor([yolo_box(1, 2, 1, numbers, (5, 7))], dtype=torch.float32)
    expected = 0.07 * loss(said, objects.targets[0]["boxes"])
    torch.testing.assert_close(found["box"], torch.as_tensor(expected, dtype=torch.float32).sum(), rtol=1e-3, atol=1e-5)


def _iou(a: list[float], b: list[float]) -> float:
    w, h = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def test_iou_thresh_lets_other_anchors_answer_too() -> None:
    """Shape IoUs of 20 x 24 with the three anchors: 140/480, 480/621, 480/1200; the second is in no section's mask."""
    objects = batch((20, 10, 40, 34, 1))
    classes = [
        detector(YOLO.format(f"iou_thresh={thresh}\n").replace("mask=0,2", "mask=0,1,2"), filters=21)
        .dense_head.loss([torch.zeros(1, 21, 5, 7)], objects)["class"]
        .item()
        for thresh in ("1", ".5", ".35", ".2")
    ]
    np.testing.assert_allclose(classes, np.array([1, 1, 2, 3]) * 2 * math.log(2), rtol=1e-5)  # two classes a row


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("iou_loss=wiou\n", r"section 2 \[yolo\]: iou_loss=wiou is unknown \(known: mse, iou, giou, diou, ciou\)"),
        ("iou_normalizer=x\n", r"section 2 \[yolo\]: iou_normalizer=x is not a number"),
    ],
)
def test_losses_that_are_none_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        detector(YOLO.format(text))
