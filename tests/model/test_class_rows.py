"""Every model, for the same classes in another order or for one more, says of the old ones what it said before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import darknet_nets
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from scenes import chatty, make_batch, scene, seen
from torch import Tensor, nn

from detkit.checkpoint.build import build_detector, build_preprocess, without_pretrained
from detkit.checkpoint.content import Checkpoint, Weights
from detkit.checkpoint.transfer import transfer
from detkit.core.structures import Detections
from detkit.model.class_rows import OTHER, class_rows, labels_of_rows, move_rows
from detkit.model.detector import Detector

BEFORE = ["ring", "star", "disk"]
SMALL = "model.backbone.name=resnet10t"
WARPED = ("preprocess.height=96", "preprocess.width=128")
RCNN = ("model=rcnn_light", "model.roi_pool.size=48", "model.box_head.backbone.name=resnet10t", "preprocess.short=96")
MODELS: list[Any] = [
    ("model=faster_rcnn_light", SMALL, "preprocess.short=96"),
    pytest.param(
        ("model=faster_rcnn_light", SMALL, "model.predictor.class_agnostic=true", "preprocess.short=96"),
        marks=pytest.mark.slow,
    ),
    pytest.param(("model=faster_rcnn_fpn", "model/backbone=resnet18"), marks=pytest.mark.slow),
    ("model=fast_rcnn_light", SMALL, "model.roi_head.box_std=null", "preprocess.short=96"),
    ("model=rfcn_light", SMALL, "preprocess.short=96"),
    ("model=rfcn_light", SMALL, "model.predictor.class_agnostic=false", "preprocess.short=96"),
    (*RCNN,),
    (*RCNN, "model/predictor=svm", "model.predictor.box_features=16"),
    ("model=ssd_light", SMALL, *WARPED),
    ("model=ssdlite", SMALL, *WARPED),
    ("model=retinanet_light", SMALL, "preprocess.short=96"),
    ("model=fcos", "model/backbone=resnet18", "model.backbone.norm=live", "preprocess.short=96"),
    ("model=yolo_v1_light", SMALL, *WARPED),
    ("model=yolo_v1", "model.dense_head.hidden=64", "model.dense_head.channels=32", *WARPED),
    ("model=yolo_v2_light", SMALL, "preprocess.short=96"),
    ("model=yolo_v3_light", SMALL, "preprocess.short=96"),
    ("model=yolox_light", SMALL, "preprocess.short=96"),
    ("darknet", "yolo"),
    ("darknet", "region"),
    ("darknet", "detection"),
]  # fmt: skip


@pytest.fixture(scope="module", params=MODELS, ids=lambda overrides: " ".join(overrides).replace("model", "m"))
def make(request: pytest.FixtureRequest, compose_train: Callable[..., DictConfig]) -> Callable[[int], Detector]:
    """make(num_classes): one of the models, with random weights."""
    if request.param[0] == "darknet":
        return lambda num_classes: darknet_nets.build(request.param[1], num_classes)
    config = compose_train(*request.param, "model.postprocess.max_detections=2000")
    model = without_pretrained(OmegaConf.to_container(config.model, resolve=True))
    preprocess = build_preprocess(OmegaConf.to_container(config.preprocess, resolve=True))  # type: ignore[arg-type]
    return lambda num_classes: build_detector(model, num_classes, preprocess)


@torch.no_grad()
def shaken(model: Detector) -> Detector:
    """With other numbers in every weight, bias and statistic, so that none is right by chance."""
    model = chatty(model)
    generator = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if name in class_rows(model, model.num_classes):
            value.add_(0.3 * torch.rand(value.shape, generator=generator))
    return model


def found(model: Detector) -> Detections:
    batch = seen(model, [scene(0, 3)]) if hasattr(model, "dense_head") else make_batch([scene(0, 3)])
    with torch.inference_mode():
        return chatty(model).predict(batch)[0]


def assert_named_alike(one: Detections, names: Sequence[str], other: Detections, others: Sequence[str]) -> None:
    """The same boxes with the same scores under the same names, in any order where scores tie."""

    def rows(detections: Detections, words: Sequence[str]) -> dict[str, Tensor]:
        return {
            word: torch.cat([detections.boxes, detections.scores[:, None]], dim=1)[detections.labels == label]
            for label, word in enumerate(words)
        }

    first, second = rows(one, names), rows(other, others)
    assert sum(map(len, first.values())) > 0
    for word, expected in first.items():
        assert len(expected) == len(second[word])
        if len(expected):
            assert torch.cdist(expected, second[word], p=torch.inf).amin(dim=1).max() < 1e-3, word


def checkpoint(weights: Weights, classes: Sequence[str], ema: Weights | None = None) -> Checkpoint:
    return Checkpoint(model=weights, ema=ema, config={}, classes=list(classes), preprocess={})


def into(make: Callable[[int], Detector], start: Detector, before: Sequence[str], now: Sequence[str]) -> Detector:
    model = make(len(now))
    content = checkpoint(start.state_dict(), before)
    told = transfer(model, content, now, make)
    assert told.kept == [name for name in now if name in before] and not told.fresh and not told.unused
    return model


def test_the_rows_of_a_class_that_coco_spells_otherwise_are_kept() -> None:
    model = torch.nn.Linear(2, 2)
    content = checkpoint(model.state_dict(), ["sofa", "cat"])
    told = transfer(torch.nn.Linear(2, 2), content, ["cat", "couch", "zebra"], lambda count: torch.nn.Linear(2, 2))
    assert (told.kept, told.new, told.dropped) == (["cat", "couch"], ["zebra"], [])


@pytest.mark.slow  # the next test has another order, too
def test_another_order_of_classes_changes_labels_and_nothing_else(make: Callable[[int], Detector]) -> None:
    torch.manual_seed(0)
    start, now = shaken(make(3)), ["disk", "ring", "star"]
    assert_named_alike(found(start), BEFORE, found(into(make, start, BEFORE, now)), now)


def test_a_class_more_changes_nothing_of_the_others(make: Callable[[int], Detector]) -> None:
    torch.manual_seed(0)
    start, now = shaken(make(3)), ["zebra", "star", "ring", "disk"]
    model = into(make, start, BEFORE, now)
    rows = class_rows(model, len(now))
    with torch.no_grad():  # the new class says nothing: whatever it says, a softmax would share with it
        for name, value in model.state_dict().items():
            if name in rows and name.endswith("bias") and "delta" not in name:
                value[rows[name] == 0] = -1e4
    again = found(model)
    again = again[again.labels != 0]
    assert_named_alike(found(start), BEFORE, again, now)


def test_no_model_has_rows_by_class_that_it_does_not_tell(make: Callable[[int], Detector]) -> None:
    three, four = make(3).state_dict(), make(4)
    assert three.keys() == four.state_dict().keys()
    changed = {name for name, value in four.state_dict().items() if value.shape != three[name].shape}
    rows = class_rows(four, 4)
    assert changed == rows.keys()
    assert all(len(labels) == len(four.state_dict()[name]) for name, labels in rows.items())


def test_labels_of_rows() -> None:
    assert labels_of_rows(2, others=1, values=2, anchors=2).tolist() == [OTHER, 0, 0, 1, 1] * 2


def test_rows_move_by_label_and_others_stay() -> None:
    own, given = torch.zeros(5), torch.tensor([9.0, 1, 2, 3])
    moved = move_rows(own, given, labels_of_rows(4, others=1), labels_of_rows(3, others=1), [2, None, 0, None])
    assert moved is not None and moved.tolist() == [9, 3, 0, 1, 0]
    assert own.tolist() == [0] * 5
    assert move_rows(own, given, labels_of_rows(4, others=1), labels_of_rows(2, anchors=2), [0, 1, None, None]) is None


class Own(nn.Module):
    """A head that does not say which rows are whose."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.trunk, self.logit = nn.Linear(2, 2), nn.Linear(2, num_classes)


def test_a_part_that_says_nothing_of_its_rows_starts_anew_where_classes_differ() -> None:
    start = checkpoint(Own(2).state_dict(), ["a", "b"])
    for classes, fresh in ((["a", "b"], []), (["b", "a"], ["logit.weight", "logit.bias"]), (["a"], ["logit.weight"])):
        model = Own(len(classes))
        before = model.logit.weight.clone()
        told = transfer(model, start, classes, Own)
        assert told.fresh[: len(fresh)] == fresh and bool(told.fresh) == bool(fresh)
        assert torch.equal(model.trunk.weight, start.model["trunk.weight"])
        assert torch.equal(model.logit.weight, before) == bool(fresh)


def test_weights_that_fit_are_counted() -> None:
    start = checkpoint({"x": torch.zeros(1), "trunk.bias": torch.zeros(3)}, ["a"])
    told = transfer(Own(1), start, ["a"], Own)
    assert (told.fitting, told.of, told.unused) == (0, 4, ["x"]) and len(told.fresh) == 4


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_averaged_weights_go_before_the_last_and_wrappers_are_taken_off(prefix: str) -> None:
    ema = Own(2).state_dict()
    start = checkpoint(Own(2).state_dict(), ["a", "b"], ema={prefix + name: v for name, v in ema.items()})
    model = Own(2)
    transfer(model, start, ["a", "b"], Own)
    assert all(torch.equal(value, ema[name]) for name, value in model.state_dict().items())
