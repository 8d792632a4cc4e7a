"""R-CNN: what its network reads, and that chunks change nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from detkit.core.errors import UserError
from detkit.core.structures import Batch, FeatureSpec, Target
from detkit.model.backbone.pixels import Pixels
from detkit.model.box_head import RegionCNN, TwoFC
from detkit.model.detector import Detector
from detkit.model.roi_pool import CropWarp

TINY = ("model=rcnn_light", "model.box_head.backbone.name=resnet10t", "model.roi_pool.size=48", "preprocess.short=96")


def make_batch(counts: list[int]) -> Batch:
    """Noise with an object in the middle of each image, and so many proposals."""
    sizes = [(96, 128)] * len(counts)
    corners = [torch.rand(count, 2) * 60 for count in counts]
    target: Target = {
        "boxes": torch.tensor([[30.0, 20, 80, 70]]),
        "labels": torch.tensor([1]),
        "difficult": torch.tensor([False]),
    }
    return Batch(
        images=torch.randint(0, 256, (len(counts), 3, 96, 128), dtype=torch.uint8),
        sizes=sizes,
        original_sizes=sizes,
        image_ids=[str(index) for index in range(len(counts))],
        targets=[target] * len(counts),
        proposals=[torch.cat([corner, corner + 5 + torch.rand(len(corner), 2) * 30], dim=1) for corner in corners],
    )


def test_images_are_normalised_for_the_network_that_reads_the_regions(build: Callable[..., Detector]) -> None:
    model = build(*TINY)
    assert model.pixel_mean.flatten().tolist() == pytest.approx(model.roi_head.box_head.backbone.mean)
    batch = make_batch([20])
    batch.sizes = [(80, 100)]
    (canvas,) = model.features(batch)
    assert torch.equal(canvas, model.normalize(batch))
    outside = torch.tensor([[112.0, 0, 128, 80]])  # right of the content: nothing but the mean
    assert not model.roi_head.roi_pool([canvas], [outside]).any()


def test_chunks_change_nothing(build: Callable[..., Detector]) -> None:
    torch.manual_seed(0)
    model = build(*TINY).eval()
    batch = make_batch([20, 0, 9])
    features, regions = model.features(batch), model.proposer([], batch)
    with torch.inference_mode():
        model.roi_head.chunk_size = 7
        chunked = model.roi_head.regions(features, regions)
        model.roi_head.chunk_size = 1000
        whole = model.roi_head.regions(features, regions)
    for a, b in zip(chunked, whole, strict=True):
        assert len(a) == 29 and torch.allclose(a, b, atol=1e-4)


def test_boxes_of_the_softmax_are_the_proposals(build: Callable[..., Detector]) -> None:
    model = build(*TINY).eval()
    batch = make_batch([20])
    regions = model.proposer([], batch)
    boxes, scores = model.roi_head(model.features(batch), regions)
    assert torch.allclose(boxes[0][:, 0], regions[0], atol=1e-3)
    assert scores[0].shape == (len(regions[0]), 3)
    assert set(model.train().loss(batch)) == {"roi_class"}


class Maps(nn.Module):
    """Stands for the convolutions of VGG."""

    mean = std = (1.0, 1.0, 1.0)

    def __init__(self, strides: list[int]) -> None:
        super().__init__()
        self.features = [FeatureSpec(3, strides[0])]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images[:, :, ::16, ::16]]


def test_vgg_pools_its_last_map_before_its_fully_connected_layers() -> None:
    torch.manual_seed(0)
    fc = TwoFC(in_channels=3, size=7, channels=8)
    head = RegionCNN(in_channels=3, size=224, stride=16, backbone=Maps, box_head=lambda in_channels, size: fc)
    crops = torch.randn(3, 3, 224, 224)
    pool5 = nn.functional.max_pool2d(crops[:, :, ::16, ::16], 2)
    assert head.out_features == 8 and torch.equal(head(crops), fc(pool5))


def test_the_last_map_follows_the_features_for_box_regressors() -> None:
    crops = torch.randn(2, 3, 64, 64)
    plain, both = (RegionCNN(in_channels=3, size=64, stride=16, backbone=Maps, map_cells=cells) for cells in (0, 2))
    features, placed = both(crops).split([3, 12], dim=1)
    assert torch.equal(features, plain(crops)) and both.out_features == 15
    quarters = crops[:, :, ::16, ::16].unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean(dim=(3, 5))
    assert torch.allclose(placed, quarters.flatten(1), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pixels(strides=[16]), r"model\.strides=\[1\]"),
        (lambda: CropWarp(features=[FeatureSpec(512, 16)]), "model/backbone=pixels"),
        (lambda: CropWarp(features=[FeatureSpec(3, 1)], size=32), r"context=16 leaves no room"),
    ],
)
def test_wrong_settings_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
