"""Mean and deviation of box offsets against a loop."""

from __future__ import annotations

import torch
from torchvision.ops import box_iou

from detkit.core.structures import Target
from detkit.ops.assign.offset_statistics import offset_statistics
from detkit.ops.coder import encode


def targets() -> list[Target]:
    generator = torch.Generator().manual_seed(0)
    made: list[Target] = []
    for count in (3, 0, 5):
        corner = torch.rand(count, 2, generator=generator) * 100
        boxes = torch.cat([corner, corner + 20 + torch.rand(count, 2, generator=generator) * 20], dim=1)
        noise = torch.randn(count * 30, 4, generator=generator) * 4
        made.append(
            {
                "boxes": boxes,
                "labels": torch.arange(count) % 3,
                "difficult": torch.arange(count) == 4,
                "proposals": boxes.repeat(30, 1) + noise,
            }
        )
    return made


def test_equals_a_loop_over_regions() -> None:
    rows: dict[int, list[torch.Tensor]] = {}
    for target in targets():
        usable = ~target["difficult"]
        for region in torch.cat([target["proposals"], target["boxes"][usable]]):
            if not usable.any():
                continue
            iou = box_iou(region[None], target["boxes"])[0]
            iou_usable = iou.masked_fill(~usable, -1)
            if iou_usable.max() >= 0.5:
                owner = int(iou_usable.argmax())
                rows.setdefault(int(target["labels"][owner]), []).append(encode(target["boxes"][owner], region))
    mean, std = offset_statistics(targets(), num_classes=4, fg_iou=0.5)
    for label in range(3):
        of_class = torch.stack(rows[label])
        assert torch.allclose(mean[label], of_class.mean(0), atol=1e-5)
        assert torch.allclose(std[label], of_class.std(0, correction=0), atol=1e-5)
    assert mean[3].tolist() == [0] * 4 and torch.allclose(std[3], torch.tensor([0.1, 0.1, 0.2, 0.2]))
    pooled_mean, pooled_std = offset_statistics(targets(), num_classes=1, fg_iou=0.5)
    everything = torch.cat([torch.stack(of_class) for of_class in rows.values()])
    assert torch.allclose(pooled_mean[0], everything.mean(0), atol=1e-5)
    assert torch.allclose(pooled_std[0], everything.std(0, correction=0), atol=1e-5)


def test_nothing_to_measure() -> None:
    mean, std = offset_statistics([], num_classes=2, fg_iou=0.5)
    assert mean.shape == std.shape == (2, 4) and (std > 0).all()
