"""A training step of detkit against torchvision's detectors on the same backbone: 8 images of 320 px, interleaved.

python benchmarks/training_step.py [--rounds 7]   writes benchmarks/results/training_step.json

EfficientNet-Lite0 with random weights on both sides, float32, SGD; a step is forward, backward and update on one batch
in memory. torchvision's Faster R-CNN is timed twice: as it comes (all layers learn, pyramid of 256 channels, two fully
connected layers of 1024, 2,000 proposals, 512 regions), and cut down to the sizes of `faster_rcnn_light` with the same
layers frozen, which tells the code apart from the configuration.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from speed import NUM_CLASSES, ROOT, noise_batch, random_detector
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, MultiScaleRoIAlign

from detkit.core.environment import describe_environment
from detkit.core.structures import Batch
from detkit.infer.execution import Execution
from detkit.model.layers.depthwise import speed_up_depthwise

BATCH, SIDE = 8, 320
BACKBONE = "tf_efficientnet_lite0"
BARS = {"faster_rcnn": 0.60, "ssdlite": 0.75}


class PyramidOf(nn.Module):
    """The maps of stride 8, 16 and 32 of a timm network through torchvision's pyramid."""

    def __init__(self, channels: int, frozen_layers: Sequence[str]) -> None:
        super().__init__()
        self.net = timm.create_model(BACKBONE, features_only=True, out_indices=(2, 3, 4))
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(not name.startswith(tuple(frozen_layers)))
        self.pyramid = FeaturePyramidNetwork(self.net.feature_info.channels(), channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.pyramid(OrderedDict((str(i), m) for i, m in enumerate(self.net(images))))


class ExtrasOn(nn.Module):
    """The maps of stride 16 and 32 of a timm network, and four more by separable convolutions (SSDLite)."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.net = timm.create_model(BACKBONE, features_only=True, out_indices=(3, 4))
        inside = self.net.feature_info.channels()[-1]
        self.extras = nn.ModuleList()
        for width in channels:
            middle, layer = width // 2, Conv2dNormActivation
            self.extras.append(
                nn.Sequential(
                    layer(inside, middle, 1, activation_layer=nn.ReLU6),
                    layer(middle, middle, 3, stride=2, groups=middle, activation_layer=nn.ReLU6),
                    layer(middle, width, 1, activation_layer=nn.ReLU6),
                )
            )
            inside = width

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = list(self.net(images))
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return OrderedDict((str(i), m) for i, m in enumerate(maps))


def their_faster_rcnn(*, light: bool) -> nn.Module:
    """torchvision's Faster R-CNN, as it comes or with the sizes of `faster_rcnn_light`."""
    sizes = ((24, 40), (64, 96), (128, 192))
    sides: dict[str, Any] = {"min_size": SIDE, "max_size": 10 * SIDE}
    pool = MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    if not light:
        return FasterRCNN(PyramidOf(256, []), NUM_CLASSES + 1, rpn_anchor_generator=anchors, box_roi_pool=pool, **sides)
    model = FasterRCNN(
        PyramidOf(96, ["conv_stem", "bn1", "blocks.0", "blocks.1"]),
        NUM_CLASSES + 1,
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        box_head=TwoMLPHead(96 * 49, 256),
        rpn_pre_nms_top_n_train=600,
        rpn_post_nms_top_n_train=300,
        box_batch_size_per_image=128,
        **sides,
    )
    model.roi_heads.box_predictor.cls_score = nn.Linear(256, NUM_CLASSES + 1)
    model.roi_heads.box_predictor.bbox_pred = nn.Linear(256, 4 * (NUM_CLASSES + 1))
    return model


def their_ssdlite() -> nn.Module:
    """torchvision's SSDLite on EfficientNet-Lite0, with the maps and boxes of `ssdlite`."""
    backbone = ExtrasOn([512, 256, 256, 128])
    boxes = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    channels = [*backbone.net.feature_info.channels(), 512, 256, 256, 128]
    head = SSDLiteHead(channels, boxes.num_anchors_per_location(), NUM_CLASSES + 1, nn.BatchNorm2d)
    return SSD(backbone, boxes, (SIDE, SIDE), NUM_CLASSES + 1, head=head)


def our_step(model: str) -> Callable[[], float]:
    """Seconds of one training step of detkit's `model`, by what `detkit train` does with it."""
    detector = random_detector(model)
    execution = Execution(torch.device("cpu"))
    batch = execution.place(noise_batch(detector, BATCH))
    execution.place_model(detector)
    speed_up_depthwise(detector)
    return step_of(detector, lambda: detector(batch))


def their_step(model: nn.Module, like: str) -> Callable[[], float]:
    """Seconds of one training step of a torchvision detector, on the batch that detkit's `like` gets."""
    batch = noise_batch(random_detector(like), BATCH)
    images, targets = as_theirs(batch)
    return step_of(model, lambda: model(images, targets))


def as_theirs(batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images as float 0..1, labels from 1."""
    assert batch.targets is not None
    images = [image[:, :h, :w].float() / 255 for image, (h, w) in zip(batch.images, batch.sizes, strict=True)]
    return images, [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in batch.targets]


def step_of(model: nn.Module, forward: Callable[[], dict[str, Tensor]]) -> Callable[[], float]:
    """Forward, backward and update, timed."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(forward().values())).sum().backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    pairs = {
        "faster_rcnn": ("faster_rcnn_light", lambda: their_faster_rcnn(light=False)),
        "faster_rcnn, torchvision at our sizes": ("faster_rcnn_light", lambda: their_faster_rcnn(light=True)),
        "ssdlite": ("ssdlite", their_ssdlite),
    }
    rows = []
    for name, (model, make) in pairs.items():
        ours, theirs = our_step(model), their_step(make(), like=model)
        times = [(ours(), theirs()) for _ in range(rounds + 2)][2:]  # the first two warm up
        mine, other = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(a / b for a, b in times)
        rows.append(
            {
                "what": name, "model": model, "ours_ms": 1000 * mine, "torchvision_ms": 1000 * other, "ratio": ratio,
                "bar": BARS.get(name),
            }
        )  # fmt: skip
        print(f"{name}: {1000 * mine:.0f} ms against {1000 * other:.0f} ms, ratio {ratio:.2f}, bar {BARS.get(name)}")
    result = {
        "what": f"one training step on {BATCH} images, short side {SIDE}, {BACKBONE}, float32, SGD",
        "rows": rows,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "environment": describe_environment(torch.device("cpu")),
    }
    path = ROOT / "benchmarks" / "results" / "training_step.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
