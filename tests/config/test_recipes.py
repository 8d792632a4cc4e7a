"""The recipes of the papers hold the papers' numbers, as their authors' code has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from detkit.checkpoint.build import build_detector, build_preprocess, without_pretrained
from detkit.config.instantiate import build
from detkit.train.optimizer import lr_factor

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PAPERS = sorted(path.stem for path in (CONFIGS / "experiment" / "paper").glob("*.yaml"))
MODERN = sorted(path.stem for path in (CONFIGS / "experiment" / "modern").glob("*.yaml"))
RFCN = [name for name in PAPERS if name.startswith("rfcn")]
ENDERNEWTON = [name for name in PAPERS if name.startswith("faster_rcnn_resnet101")]
OF_RCNN = {"score_threshold": 0, "nms_iou": 0.3, "max_candidates": 100, "max_detections": None, "set_candidates": 40}
VALUES: list[tuple[str, str, Any]] = [
    # rbgirshick/rcnn, rcnn_test.m and finetuning/vgg16; Fast R-CNN, section 5.3
    *(("rcnn_vgg16_voc07", f"model.postprocess.{key}", value) for key, value in OF_RCNN.items()),
    *(("fast_rcnn_vgg16_voc0712", f"model.postprocess.{key}", value) for key, value in OF_RCNN.items()),
    ("fast_rcnn_vgg16_voc07", "trainer.budget", "40000it"),
    ("fast_rcnn_vgg16_voc0712", "trainer.budget", "60000it"),
    ("fast_rcnn_vgg16_voc0712", "schedule.curve.milestones", [30000]),
    # YuwenXiong/py-R-FCN, lib/fast_rcnn/test.py
    *((name, "model.postprocess.score_threshold", 0.0) for name in RFCN),
    *((name, "model.postprocess.max_detections", 400) for name in RFCN),
    *((name, "model.postprocess.nms_iou", 0.3) for name in RFCN),
    # endernewton/tf-faster-rcnn, experiments/cfgs/res101.yml and lib/model/config.py
    *((name, "model.roi_head.num_samples", 256) for name in ENDERNEWTON),
    *((name, "model.roi_head.gt_proposals", False) for name in ENDERNEWTON),
    *((name, "optimizer.bias_lr", 1.0) for name in ENDERNEWTON),
    # rbgirshick/py-faster-rcnn, lib/rpn/proposal_layer.py
    ("faster_rcnn_vgg16_voc07", "model.proposer.filter_first", True),
    ("faster_rcnn_vgg16_voc07", "model.proposer.min_size", 16),
    # R-FCN's and Girshick's layers: corners are pixels, and torchvision's stride lies in the 3x3 convolution
    *(
        (name, "model.roi_pool.convention", "caffe")
        for name in [*RFCN, "fast_rcnn_vgg16_voc07", "faster_rcnn_vgg16_voc07"]
    ),
    *((name, "model.box_head.first_dilation", 1) for name in RFCN),
    # Darknet's canvas
    ("yolo_v3_voc0712", "preprocess.fill", 127),
    ("yolo_v3_voc0712", "augment.transforms.0.fill", 127),
]


@cache
def recipe(name: str, group: str = "paper") -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [f"experiment={group}/{name}"])


def rates_and_decays(name: str) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) of each weight that is trained, by its name."""
    config: Any = OmegaConf.to_container(recipe(name), resolve=False)
    config = OmegaConf.create({key: config[key] for key in ("model", "preprocess", "optimizer")})
    model = without_pretrained(OmegaConf.to_container(config.model, resolve=True))  # type: ignore[arg-type]
    with torch.device("meta"):
        detector = build_detector(model, 20, build_preprocess(OmegaConf.to_container(config.preprocess)))  # type: ignore[arg-type]
    optimizer = build(config.optimizer, "optimizer")(detector)
    names = {id(parameter): known for known, parameter in detector.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize(("name", "key", "value"), VALUES)
def test_a_recipe_has_the_number_of_its_paper(name: str, key: str, value: Any) -> None:
    assert OmegaConf.select(recipe(name), key) == value


@pytest.mark.parametrize(("group", "name"), [("paper", n) for n in PAPERS] + [("modern", n) for n in MODERN])
def test_a_recipe_alone_has_its_own_learning_rate(group: str, name: str) -> None:
    config = recipe(name, group)
    per_images, images = config.optimizer.per_images, config.loader.batch_size * config.trainer.accumulate
    assert lr_factor(per_images, images) == 1
    assert per_images is not None or group == "modern"


@pytest.mark.parametrize(
    ("name", "biases", "decay"),
    [
        ("rcnn_vgg16_voc07", 2.0, 0.0),
        ("fast_rcnn_vgg16_voc07", 2.0, 0.0),
        ("ssd300_voc0712", 2.0, 0.0),
        ("faster_rcnn_vgg16_voc07", 2.0, 5e-4),
        ("rfcn_resnet50_voc0712", 2.0, 5e-4),
        ("faster_rcnn_resnet101_voc07", 1.0, 0.0),
    ],
)
def test_biases_learn_and_decay_as_in_the_paper(name: str, biases: float, decay: float) -> None:
    found = rates_and_decays(name)
    base = recipe(name).optimizer.lr
    of_bias = {(rate, own) for key, (rate, own) in found.items() if key.endswith("bias") and ".predictor." not in key}
    assert of_bias == {(biases * base, decay)}
    assert all(own > 0 for key, (_, own) in found.items() if key.endswith("weight"))  # SSD's L2 norm among them


def test_the_new_layer_of_r_cnn_learns_ten_times_as_fast() -> None:
    found = {key: rate for key, (rate, _) in rates_and_decays("rcnn_vgg16_voc07").items()}
    assert found["roi_head.predictor.logit.weight"] == pytest.approx(0.01)
    assert found["roi_head.predictor.logit.bias"] == pytest.approx(0.02)
    assert {rate for key, rate in found.items() if ".predictor." not in key} == {0.001, 0.002}


def test_all_biases_of_r_fcn_belong_to_its_new_layers() -> None:
    new = ("proposer.head.", "roi_head.predictor.", "roi_head.box_head.reduce.")
    biases = [key for key in rates_and_decays("rfcn_resnet50_voc0712") if key.endswith("bias")]
    assert biases and all(key.startswith(new) for key in biases), biases


def test_v1_decays_as_darknet_does_though_its_gradients_are_twice_as_large() -> None:
    """Darknet: w -= lr (g + d w) with lr 0.01, d 5e-4; here the loss is the paper's, whose gradient is 2 g."""
    optimizer = recipe("yolo_v1_voc0712").optimizer
    assert optimizer.lr * 2 == 0.01
    assert optimizer.lr * optimizer.weight_decay == pytest.approx(0.01 * 5e-4)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("ssd300_voc0712", [30, 60, 111, 162, 213, 264, 315]),
        ("ssd300_coco2017", [21, 45, 99, 153, 207, 261, 315]),
        ("ssd512_voc0712", [35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6]),
        ("ssd512_coco2017", [20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72]),
    ],
)
def test_default_boxes_are_of_the_data_set(name: str, sides: list[float]) -> None:
    """As the loops over `min_ratio` and `max_ratio` of ssd_pascal.py and ssd_coco.py give them."""
    config = recipe(name)
    scales = [scale * config.preprocess.width for scale in config.model.dense_head.default_boxes.scales]
    assert scales == pytest.approx(sides, abs=0.1)


@pytest.mark.parametrize("side", [114, 90])
def test_v3_is_padded_alike_in_training_and_at_test(compose_train: Callable[..., DictConfig], side: int) -> None:
    config = compose_train("model=yolo_v3", "augment=yolo_v3", f"preprocess.fill={side}")
    assert config.augment.transforms[0].fill == config.preprocess.fill == side


def test_fcos_is_tested_from_the_threshold_of_its_paper(compose_train: Callable[..., DictConfig]) -> None:
    assert compose_train("model=fcos").model.postprocess.score_threshold == 0.05


@pytest.mark.parametrize(
    "model", ["rcnn", "fast_rcnn", "faster_rcnn", "faster_rcnn_fpn", "rfcn", "ssd300", "ssd512", "retinanet", "fcos"]
)
def test_weights_of_torchvision_are_pinned(compose_train: Callable[..., DictConfig], model: str) -> None:
    """By the name that the papers' numbers and torchvision's detectors belong to, in every part that is pretrained."""
    found = dict(pretrained_parts(OmegaConf.to_container(compose_train(f"model={model}").model, resolve=True)))
    assert found and set(found.values()) == {"IMAGENET1K_V1"}, found


def pretrained_parts(node: Any, key: str = "model") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if node.get("pretrained"):
            yield key, node["weights"]
        for name, value in node.items():
            yield from pretrained_parts(value, f"{key}.{name}")


def test_the_line_of_r_cnns_has_one_head(compose_train: Callable[..., DictConfig]) -> None:
    """VGG's fc6 and fc7 with dropout in all three, so that a comparison tells the systems apart and not their heads."""
    heads = [compose_train(f"model={model}").model.box_head for model in ("fast_rcnn", "faster_rcnn")] + [
        compose_train("model=rcnn").model.box_head.box_head
    ]
    wanted = {"channels": 4096, "dropout": 0.5, "pretrained": True, "name": "vgg16"}
    assert all({key: head[key] for key in wanted} == wanted for head in heads)
