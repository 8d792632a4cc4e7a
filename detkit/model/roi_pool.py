"""RoI poolers: a fixed-size map for each region, read from the feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.ops import box_area, ps_roi_align, roi_pool
from torchvision.ops import ps_roi_pool as rounded_ps_roi_pool

from detkit.core.errors import UserError
from detkit.core.structures import FeatureSpec
from detkit.model.part import one_width
from detkit.ops.pool.crop_warp import crop_warp
from detkit.ops.pool.ps_roi_pool import ps_roi_pool
from detkit.ops.pool.roi_align import roi_align

# Symbols: R regions of all images, C channels, k cells along a side.


def assign_levels(boxes: Tensor, strides: Sequence[int], canonical_size: float) -> Tensor:
    """Assign each box a level of the pyramid: int64 [R], an index into `strides` (FPN, equation 1).

    A box of `canonical_size` pixels belongs to stride 16, one of half that side to stride 8, and so on.
    """
    scale = torch.log2(box_area(boxes).sqrt() / canonical_size + 1e-8)
    level = torch.floor(scale + 4 + 1e-6) - (int(strides[0]).bit_length() - 1)
    return level.clamp(0, len(strides) - 1).long()


class _RoIPooler(nn.Module):
    """Choose levels and order regions; a subclass only reads one map (`pool`)."""

    gives = "cells"

    def __init__(
        self, *, features: Sequence[FeatureSpec], size: int = 7, max_stride: int = 32, canonical_size: float = 224
    ) -> None:
        super().__init__()
        read = [feature for feature in features if feature.stride <= max_stride]
        if not read:
            raise UserError(
                f"model.roi_pool.max_stride={max_stride}: no map is as fine (strides {[f.stride for f in features]})"
            )
        one_width(read, "model.roi_pool")
        self.size = size
        self.strides = [feature.stride for feature in read]
        self.canonical_size = canonical_size

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Pool boxes, per image float32 [P, 4] on the canvas -> [R, C, k, k], images in order."""
        images = torch.repeat_interleave(
            torch.arange(len(boxes), device=boxes[0].device),
            torch.tensor([len(b) for b in boxes], device=boxes[0].device),
        )
        return self.read(features, torch.cat([images[:, None].to(boxes[0].dtype), torch.cat(list(boxes))], dim=1))

    def read(self, features: Sequence[Tensor], regions: Tensor) -> Tensor:
        """Pool regions, float32 [R, 5] of (image, x1, y1, x2, y2) on the canvas -> [R, C, k, k]."""
        if len(self.strides) == 1:
            return self.pool(features[0], regions, 1 / self.strides[0])
        levels = assign_levels(regions[:, 1:], self.strides, self.canonical_size)
        pooled = features[0].new_zeros(regions.shape[0], features[0].shape[1], self.size, self.size)
        for level, stride in enumerate(self.strides):
            index = torch.nonzero(levels == level).flatten()
            # every level is read, even for no region, so that its parameters always have a gradient
            pooled = pooled.index_put((index,), self.pool(features[level], regions[index], 1 / stride))
        return pooled

    def pool(self, feature: Tensor, regions: Tensor, scale: float) -> Tensor:
        """Pool regions [R, 5] of (image, x1, y1, x2, y2) on the canvas from one map [B, C, H, W] -> [R, C, k, k]."""
        raise NotImplementedError


class _RoundingPooler(_RoIPooler):
    """Round regions by one of two conventions.

    convention: `caffe`, the papers' own layers, whose far corner is the last pixel of a region and not the one after
    it, or `torchvision`, whose layer rounds our half-open corners as they are. Checkpoints without the key were trained
    with the latter. settings: of `_RoIPooler`.
    """

    def __init__(self, *, convention: Literal["caffe", "torchvision"] = "torchvision", **settings: Any) -> None:
        super().__init__(**settings)
        self.convention = convention


class RoIPool(_RoundingPooler):
    """Max pooling over each of k x k cells with rounded borders (Fast R-CNN, section 2.1)."""

    def pool(self, feature: Tensor, regions: Tensor, scale: float) -> Tensor:
        if self.convention == "caffe":
            regions = regions - regions.new_tensor([0, 0, 0, 1, 1])
        pooled: Tensor = roi_pool(feature.float(), regions, self.size, scale)
        return pooled.to(feature.dtype)


class _SamplingPooler(_RoIPooler):
    """Sample bilinearly; sampling_ratio: samples along a side of a cell; settings: of `_RoIPooler`."""

    def __init__(self, *, sampling_ratio: int = 2, **settings: Any) -> None:
        super().__init__(**settings)
        self.sampling_ratio = sampling_ratio


class RoIAlign(_SamplingPooler):
    """Average bilinear samples in each of k x k cells, without rounding (Mask R-CNN, section 3).

    sampling_ratio: samples along a side of a cell. aligned: shift by half a pixel, so that pixel centres meet.
    """

    def __init__(self, *, aligned: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self.aligned = aligned

    def pool(self, feature: Tensor, regions: Tensor, scale: float) -> Tensor:
        return roi_align(feature, regions, self.size, scale, self.sampling_ratio, self.aligned)


class PSRoIPool(_RoundingPooler):
    """Average over each of k x k cells, every cell from maps of its own: C k k channels give C (R-FCN, equation 1).

    convention: `caffe` rounds a region to pixels, as R-FCN's layer does, `torchvision` to whole cells of the map.
    """

    gives = "votes"

    def pool(self, feature: Tensor, regions: Tensor, scale: float) -> Tensor:
        pool = ps_roi_pool if self.convention == "caffe" else rounded_ps_roi_pool
        return pool(feature.float(), regions, self.size, scale).to(feature.dtype)


class PSRoIAlign(_SamplingPooler):
    """Average bilinear samples in each of k x k cells, every cell from maps of its own, without rounding.

    `PSRoIPool` after the manner of `RoIAlign` (Light-Head R-CNN, section 3.3): two regions that differ by less than a
    cell of the map differ in what they read. sampling_ratio: samples along a side of a cell.
    """

    gives = "votes"

    def pool(self, feature: Tensor, regions: Tensor, scale: float) -> Tensor:
        pooled: Tensor = ps_roi_align(feature.float(), regions, self.size, scale, self.sampling_ratio)
        return pooled.to(feature.dtype)


class CropWarp(nn.Module):
    """Crop each region out of the image itself and warp it to one size (R-CNN, section 2.1).

    size: the side of a crop in pixels. context: how many of them lie around the region on each side.
    """

    gives = "crops"

    def __init__(self, *, features: Sequence[FeatureSpec], size: int = 224, context: int = 16) -> None:
        super().__init__()
        if len(features) != 1 or tuple(features[0]) != (3, 1):
            raise UserError("model/roi_pool=crop_warp cuts regions out of the image: it needs model/backbone=pixels")
        if 2 * context >= size:
            raise UserError(f"model.roi_pool.context={context} leaves no room for a region in size={size} pixels")
        self.size = size
        self.context = context

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Crop boxes, per image float32 [P, 4] on it, from features = (image [B, 3, H, W],) -> [R, 3, k, k]."""
        crops = [
            crop_warp(image, own, size=self.size, context=self.context)
            for image, own in zip(features[0], boxes, strict=True)
        ]
        return torch.cat(crops)
