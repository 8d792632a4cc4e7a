"""Parts: another backbone, neck, box head or pooling, parts of one's own, recipes with another model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from doors import Door

from detkit.infer.open_checkpoint import load_checkpoint

STEPS = (
    "trainer.budget=2it loader.batch_size=2 loader.num_workers=0 evaluation.timing_images=0 evaluation.pictures=0 "
    "device=cpu data=voc data.root=D hydra.run.dir=RUN"
)
SMALL = f"model.backbone.pretrained=false preprocess.short=64 preprocess.max=96 {STEPS}"
ISSUES = "mmdetection (config docs: `_delete_`), Pedestron #144; mmdetection PR #11814"

TINY = """
from torch import nn
from detkit.core.structures import FeatureSpec

class {name}(nn.Module):
    mean, std = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)

    def __init__(self, {arguments}):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(3, width, 3, stride=s, padding=1) for s in ({strides})
        )
        self.features = [{spec}(width, s) for s in ({strides})]

    def forward(self, images):
        return {returns}
"""


def own_backbone(
    name: str,
    *,
    arguments: str = "*, strides, width=8",
    strides: str = "strides",
    spec: str = "FeatureSpec",
    returns: str = "[conv(images) for conv in self.convs]",
    partial: bool = True,
    settings: str = "width: 16\n",
) -> Callable[[Path], None]:
    """A module of that name on Python's path with a backbone of that name, and a config of it in `mine`."""

    def make(folder: Path) -> None:
        text = TINY.format(name=name, arguments=arguments, strides=strides, spec=spec, returns=returns)
        (folder / "code").mkdir()
        (folder / "code" / f"{name.lower()}.py").write_text(text)
        sys.path.insert(0, str(folder / "code"))
        config = folder / "mine" / "model" / "backbone" / f"{name.lower()}.yaml"
        config.parent.mkdir(parents=True)
        waits = "_partial_: true\n" if partial else ""
        config.write_text(f"_target_: {name.lower()}.{name}\n{waits}{settings}")

    return make


def backbone_is(name: str, keeps: tuple[str, ...] = ()) -> Callable[[Path, str], None]:
    """What is in the checkpoint is a trained model with that backbone, and nothing of the one before."""

    def check(folder: Path, output: str) -> None:
        saved = load_checkpoint(folder / "RUN")
        backbone = saved.model_config["backbone"]
        assert backbone["_target_"].endswith(name), backbone
        assert "frozen_stride" in keeps or "frozen_stride" not in backbone
        assert saved.step == 2

    return check


def nothing_of_the_default(folder: Path, output: str) -> None:
    backbone = load_checkpoint(folder / "RUN").model_config["backbone"]
    assert backbone == {"_target_": "tinynet.TinyNet", "_partial_": True, "width": 16}


def nothing_trained(folder: Path, output: str) -> None:
    assert not list(folder.rglob("*.pt"))


def own(name: str) -> str:
    settings = SMALL.replace("model.backbone.pretrained=false ", "")
    return f"train --config-dir mine model/backbone={name.lower()} {settings}"


def text(path: str, content: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)

    return make


DOORS = [
    Door(
        kind="the default model with another backbone",
        given="D",
        command=f"train model/backbone=resnet18 {SMALL}",
        code=0,
        says="written to",
        source=ISSUES,
        needs=("D",),
        check=backbone_is("ResNet"),
    ),
    Door(
        kind="the default model on VGG, whose coarsest map is its last pooling",
        given="D",
        command=f"train model/backbone=vgg16 {SMALL}",
        code=0,
        says="written to",
        source=ISSUES,
        needs=("D",),
        check=backbone_is("VGG"),
        slow=True,
    ),
    Door(
        kind="the default model on Darknet-53",
        given="D",
        command=f"train model/backbone=darknet53 {SMALL.replace('=false', '=null')}",
        code=0,
        says="written to",
        source=ISSUES,
        needs=("D",),
        check=backbone_is("Darknet"),
        slow=True,
    ),
    Door(
        kind="a backbone that has not the maps",
        given="",
        command=f"train model/backbone=mobilenet_v3 {SMALL}",
        code=2,
        says="model.strides=[8, 16, 32]: backbone=mobilenet_v3 has the maps [16, 32] and [32, 32]\n"
        "take model/backbone=timm model.backbone.name=mobilenetv3_large_100",
        source=ISSUES,
    ),
    Door(
        kind="the backbone that the answer names",
        given="D",
        command=f"train model/backbone=timm model.backbone.name=mobilenetv3_large_100 {SMALL}",
        code=0,
        says="written to",
        needs=("D",),
        check=backbone_is("TimmBackbone", keeps=("frozen_stride",)),
        slow=True,
    ),
    Door(
        kind="the default model with another box head",
        given="D",
        command=f"train model/box_head=two_fc {SMALL}",
        code=0,
        says="written to",
        source=ISSUES,
        needs=("D",),
    ),
    Door(
        kind="the default model with another box head",
        given="D",
        command=f"train model/box_head=conv_fc {SMALL}",
        code=0,
        says="written to",
        source=ISSUES,
        needs=("D",),
        slow=True,
    ),
    Door(
        kind="the last stage of a network that is none",
        given="",
        command=f"train model/box_head=res5 {SMALL}",
        code=2,
        says="model/box_head=res5 is the last stage of the ResNet that the backbone is cut from, and the backbone is "
        "tf_efficientnet_lite0: take model/backbone=resnet18",
        source=ISSUES,
    ),
    Door(
        kind="one map, and anchors for three",
        given="",
        command=f"train model/neck=none {SMALL}",
        code=2,
        says="model.proposer.anchors.sizes has 3 levels, the features have 1 (strides [16])\nor null",
        source=ISSUES,
    ),
    Door(
        kind="one map, with anchors as the answer says",
        given="D",
        command=f"train model/neck=none model.proposer.anchors.sizes=null {SMALL}",
        code=0,
        says="written to",
        needs=("D",),
        slow=True,
    ),
    Door(
        kind="maps of several widths, which one part reads alike",
        given="",
        command=f"train model/neck=pafpn {SMALL}",
        code=2,
        says="model.roi_pool reads 3 maps alike, but they have 40, 112, 320 channels: several maps need a pyramid, "
        "such as model/neck=fpn (of model/neck=pafpn: model.neck.channels=[96,96,96])",
        source=ISSUES,
    ),
    Door(
        kind="several maps, as the answer says",
        given="D",
        command=f"train model/neck=pafpn 'model.neck.channels=[96,96,96]' {SMALL}",
        code=0,
        says="written to",
        needs=("D",),
        slow=True,
    ),
    Door(
        kind="a pooling of score maps that nobody makes",
        given="",
        command=f"train model/roi_pool=ps_roi_align {SMALL}",
        code=2,
        says="model.roi_pool (PSRoIAlign) does not fit\nneeds model/predictor=position_sensitive, model/roi_head=rfcn",
        source=ISSUES,
    ),
    Door(
        kind="a recipe with another model",
        given="D",
        command=f"train experiment=quickstart model=ssd_light model.backbone.pretrained=false {STEPS}",
        code=0,
        says="written to",
        source="lightning-hydra-template",
        needs=("D",),
        check=lambda folder, output: (
            load_checkpoint(folder / "RUN").config["preprocess"]["short"] == 240 or pytest.fail(output)
        ),
        slow=True,
    ),
    Door(
        kind="a recipe of one's own whose settings belong to another preprocess",
        given="mine/experiment/cells.yaml: preprocess: {short: 64}",
        command=f"train --config-dir mine experiment=cells model=ssd_light {STEPS}",
        code=2,
        says="preprocess (Warp) takes no short; it takes pad_multiple, decode, height, width\n~preprocess.short",
        source="lightning-hydra-template",
        make=text("mine/experiment/cells.yaml", "# @package _global_\npreprocess: {short: 64}\n"),
    ),
    Door(
        kind="a recipe with another model: settings of a part",
        given="",
        command=f"train experiment=modern/yolox_scratch_bccd model=yolox_light {STEPS}",
        code=2,
        says="model.backbone (TimmBackbone) takes no depthwise; it takes name, strides, norm, "
        "frozen_stride, pretrained\n~model.backbone.depthwise",
        source="lightning-hydra-template",
    ),
    Door(
        kind="a recipe with another model: a part that it has not",
        given="",
        command=f"train experiment=paper/faster_rcnn_resnet101_voc07 model=ssd_light {STEPS}",
        code=2,
        says="experiment=paper/faster_rcnn_resnet101_voc07 does not go with model=ssd_light",
        source="lightning-hydra-template",
    ),
    Door(
        kind="a recipe with another schedule",
        given="",
        command=f"train experiment=paper/ssd300_voc0712 schedule=cosine model.backbone.pretrained=false {STEPS}",
        code=2,
        says="schedule.curve (cosine) takes no milestones; it takes progress, step, end\n~schedule.curve.milestones",
    ),
    Door(
        kind="a recipe with another optimizer",
        given="",
        command=f"train experiment=modern/yolox_s_voc0712 optimizer=adamw {STEPS}",
        code=2,
        says="optimizer.algorithm (AdamW) takes no nesterov\n~optimizer.algorithm.nesterov",
    ),
    Door(
        kind="R-CNN's network, looked for where other models have it",
        given="",
        command=f"train model=rcnn_light model/backbone=resnet18 {STEPS}",
        code=2,
        says="model.strides=[1]: resnet18 has maps at 4, 8, 16, 32, none at [1]\n"
        "chosen by model/backbone@model.box_head.backbone=...",
    ),
    Door(
        kind="strides that are no list",
        given="",
        command=f"train model.strides=16 {SMALL}",
        code=2,
        says="model.proposer.anchors.sizes has 3 levels, the features have 1 (strides [16])",
    ),
    Door(
        kind="strides from coarse to fine",
        given="",
        command=f"train model/backbone=resnet18 'model.strides=[32,16,8]' {SMALL}",
        code=2,
        says="model.strides=[32, 16, 8]: model.backbone (ResNet) gives maps of strides [8, 16, 32]: name strides from "
        "fine to coarse",
    ),
    Door(
        kind="a key that the part does not take, added",
        given="",
        command=f"train +model.backbone.dropout=0.1 {SMALL}",
        code=2,
        says="model.backbone (TimmBackbone) takes no dropout; it takes name, strides",
    ),
    Door(
        kind="a key that the model gives itself",
        given="",
        command=f"train '+model.backbone.strides=[8,16,32]' {SMALL}",
        code=2,
        says="model.backbone.strides=[8, 16, 32]: strides is given by the model; drop it",
    ),
    Door(
        kind="another canvas than the default boxes were published for",
        given="D",
        command="train model=ssd300 preprocess.height=288 preprocess.width=320 "
        f"model.backbone.pretrained=false {STEPS}",
        code=0,
        says="written to",
        needs=("D",),
        slow=True,
    ),
    Door(
        kind="one image whose map is one cell",
        given="D",
        command=f"train model=yolox_nano preprocess.size=32 {STEPS} loader.batch_size=1",
        code=2,
        says="loader.batch_size: 1 image of 32 x 32 pixels has a map of one cell\n"
        "take two images or more, or a larger preprocess",
        source="pytorch-ssd #27",
        needs=("D",),
    ),
    Door(
        kind="a backbone of one's own in place of the default one",
        given="code/tinynet.py on PYTHONPATH, mine/model/backbone/tinynet.yaml",
        command=own("TinyNet"),
        code=0,
        says="written to",
        source="mmdetection #6792",
        needs=("D",),
        make=own_backbone("TinyNet"),
        check=nothing_of_the_default,
    ),
    Door(
        kind="a backbone of one's own: a key that it does not take",
        given="mine/model/backbone/tinykey.yaml: widht: 16",
        command=own("TinyKey"),
        code=2,
        says="model.backbone (TinyKey) takes no widht; it takes strides, width",
        make=own_backbone("TinyKey", settings="widht: 16\n"),
    ),
    Door(
        kind="a backbone of one's own: it is given strides and takes none",
        given="def __init__(self, width=8)",
        command=own("TinyFixed"),
        code=2,
        says="model.backbone (TinyFixed) takes no strides, but the model gives it strides; it takes width",
        make=own_backbone("TinyFixed", arguments="width=8", strides="(8, 16, 32)"),
    ),
    Door(
        kind="a backbone of one's own: built too early",
        given="a config without _partial_: true",
        command=own("TinyEarly"),
        code=2,
        says="model.backbone (TinyEarly) needs strides",
        make=own_backbone("TinyEarly", partial=False),
    ),
    Door(
        kind="a backbone of one's own: maps in a dict",
        given="forward returns a dict",
        command=own("TinyDict"),
        code=2,
        says="model.backbone (TinyDict) must return a list of maps [B, C, H, W], finest first; it returned a dict",
        needs=("D",),
        make=own_backbone("TinyDict", returns="{'p3': images}"),
    ),
    Door(
        kind="a backbone of one's own: other channels than it says",
        given="features say 16 channels",
        command=own("TinyWide"),
        code=2,
        says="model.backbone (TinyWide) says that its maps are (channels, stride) [(16, 8), (16, 16), (16, 32)]; it "
        "returned the shapes [(2, 32, ",
        needs=("D",),
        make=own_backbone("TinyWide", returns="[conv(images).repeat(1, 2, 1, 1) for conv in self.convs]"),
    ),
    Door(
        kind="a backbone of one's own: another stride than it says",
        given="a map twice as fine as features say",
        command=own("TinyFine"),
        code=2,
        says="model.backbone (TinyFine) says that a map has stride 8; of 64 x 96 pixels it has 16 x 24 cells, which is "
        "a stride of about 4",
        needs=("D",),
        make=own_backbone(
            "TinyFine", returns="[conv(images).repeat_interleave(2, 2).repeat_interleave(2, 3) for conv in self.convs]"
        ),
    ),
    Door(
        kind="a backbone of one's own: channels without strides",
        given="features = [(16, 8), ...]",
        command=own("TinyTuple"),
        code=2,
        says="model.backbone (TinyTuple).features=[[16, 8], [16, 16], [16, 32]]: expected a list of "
        "FeatureSpec(channels, stride)",
        make=own_backbone("TinyTuple", spec="(lambda c, s: [c, s])"),
    ),
    Door(
        kind="a backbone of one's own: Python does not find it",
        given="mine/model/backbone/nowhere.yaml: _target_: nosuch.Net",
        command=own("Nowhere"),
        code=2,
        says="model.backbone._target_=nosuch.Net: there is no module nosuch; a module of your own is found where "
        "PYTHONPATH says its folder",
        make=text("mine/model/backbone/nowhere.yaml", "_target_: nosuch.Net\n_partial_: true\n"),
    ),
    Door(
        kind="a comparison on a backbone that one of its models cannot have",
        given="",
        command=f"compare backbone=mobilenet_v3 'models=[ssdlite,faster_rcnn_light]' {STEPS}",
        code=2,
        says="faster_rcnn_light: model.strides=[8, 16, 32]: backbone=mobilenet_v3 has the maps",
        check=nothing_trained,
    ),
    Door(
        kind="a comparison with an R-CNN on another backbone",
        given="",
        command=f"compare backbone=pixels 'models=[rcnn_light]' {STEPS}",
        code=2,
        says="rcnn_light: model.box_head.stride=32: model/backbone@model.box_head.backbone=pixels is the image itself",
        check=nothing_trained,
    ),
]


@pytest.fixture(autouse=True)
def python_path():
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.mark.parametrize(
    "door", [pytest.param(d, marks=pytest.mark.slow) if d.slow else d for d in DOORS], ids=lambda door: door.kind
)
def test_door(door, walk):
    walk(door)
