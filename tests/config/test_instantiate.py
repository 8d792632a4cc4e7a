"""What a `_target_` takes is looked up before it is called."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from torch import nn

from detkit.config.instantiate import build, complete, takes
from detkit.core.errors import UserError
from detkit.model.dense_head.yolo_v2 import YOLOv2
from detkit.model.roi_head.rcnn import RCNNHead
from detkit.model.roi_pool import PSRoIAlign


class Wide(nn.Module):
    def __init__(self, *, strides: list[int], width: int = 8) -> None:
        super().__init__()
        self.strides, self.width = strides, width


class Open(nn.Module):
    """Takes whatever it is given, as a user's own part may."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings


class Broken(nn.Module):
    def __init__(self, *, strides: list[int]) -> None:
        super().__init__()
        len(strides, strides)  # type: ignore[call-arg]


class Picky(nn.Module):
    def __init__(self, *, width: int = 8) -> None:
        raise UserError(f"part.width={width}: too narrow")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module under a name that a config can have."""
    import sys
    import types

    module = types.ModuleType("parts_of_mine")
    for part in (Wide, Open, Broken, Picky):
        setattr(module, part.__name__, part)
    monkeypatch.setitem(sys.modules, "parts_of_mine", module)


def node(name: str, **values: Any) -> dict[str, Any]:
    return {"_target_": f"parts_of_mine.{name}", **values}


def test_a_part_waits_for_what_the_model_gives() -> None:
    part = build(node("Wide", _partial_=True, width=16), "model.backbone")
    made = complete(part, "model.backbone", strides=[8])
    assert (made.width, made.strides) == (16, [8])
    assert complete(build(node("Open", _partial_=True, x=1), "k"), "k", strides=[8]).settings == {
        "x": 1,
        "strides": [8],
    }
    assert build(None, "multi_image") is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (node("Wide", _partial_=True, widht=16), r"^part \(Wide\) takes no widht; it takes str.*\n.*~part\.widht"),
        (node("Wide", width=16), r"^part \(Wide\) needs strides, and has width"),
        (node("Nothing"), r"^part\._target_=parts_of_mine\.Nothing"),
        ({"_target_": "no_such_module.X"}, "there is no module no_such_module; .*PYTHONPATH"),
        ({"width": 16}, r"part has settings \(width\) but no part .* ~part\.width"),
        ("resnet", "part=resnet sets the value of a key; to choose the part write part=resnet"),
        ({"_target_": "builtins.dict", "inner": [node("Wide", _partial_=True, x=1)]}, r"part\.inner\[0\] \(Wide\)"),
        (node("Picky"), r"^part\.width=8: too narrow$"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(config: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(config, "part")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (None, "model.neck: there is none; choose one with model/neck=..."),
        ("fpn", "write model/neck=fpn"),
        ({"channels": 96}, r"model\.neck has settings \(channels\) but no part"),
        (Open(), r"model\.neck \(Open\) is built already, but the model gives it features: add _partial_: true"),
        (partial(Wide, width=1), r"model\.neck \(Wide\) takes no features, .* it takes strides, width"),
        (partial(Open, features=1), r"model\.neck\.features=1: features is given by the model"),
    ],
)
def test_a_part_that_cannot_be_completed_is_named(part: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        complete(part, "model.neck", features=[])


def test_what_is_wrong_inside_a_constructor_is_a_bug() -> None:
    with pytest.raises(TypeError, match="len"):
        complete(partial(Broken), "model.backbone", strides=[8])


def test_settings_are_those_of_the_class_above_in_detkit_and_anything_elsewhere() -> None:
    assert {"sampling_ratio", "size", "max_stride", "canonical_size"} <= set(takes(PSRoIAlign) or ())
    assert {"chunk_size", "num_samples", "box_std"} <= set(takes(RCNNHead) or ())
    assert "settle_images" in (takes(YOLOv2) or ())
    assert takes(Open) is None
