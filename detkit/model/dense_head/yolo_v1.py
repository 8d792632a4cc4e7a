"""YOLO v1: a grid of 7 x 7 cells, each with two boxes and one set of class scores (Redmon et al. 2016).

Symbols: S cells along a side, n boxes of a cell, C classes, P cells with an object. A cell holds the class scores and,
per box, (x, y, rw, rh, confidence): x and y in cells, rw and rh the roots of shares of the canvas; none is bounded.

This follows the paper. Darknet's yolov1.cfg has three boxes per cell, a locally connected layer in place of the first
fully connected one, and batch norm everywhere (in the convolutions here, too: without it nothing this deep learns from
random weights). Its gradients are half of those of the paper's loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detkit.core.errors import UserError
from detkit.core.structures import Batch, FeatureSpec, Size
from detkit.model.class_rows import OTHER
from detkit.model.layers.conv import conv_norm
from detkit.ops.assign.match import IGNORE, NEGATIVE
from detkit.ops.assign.objects import Objects, objects_of
from detkit.ops.box import paired_iou
from detkit.ops.yolo_coder import cell_grid, centre_size, decode_root, encode_root


class YOLOv1Output(nn.Module):
    """Decode the values of the cells to boxes and scores, and compute their loss (section 2.2, equation 3)."""

    def __init__(
        self,
        *,
        grid: int,
        num_boxes: int,
        num_classes: int,
        box_weight: float = 5.0,
        background_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.grid, self.num_boxes, self.num_classes = grid, num_boxes, num_classes
        self.box_weight, self.background_weight = box_weight, background_weight

    def forward(self, values: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Decode values [B, S * S, C + 5 * n].

        Returns boxes float32 [B, S * S * n, 1, 4] xyxy on the canvas and scores float32 [B, S * S * n, C] = confidence
        x class, clipped to 0..1.
        """
        classes, raw = self.split(values)
        boxes = self.decode(raw, batch)
        scores = (raw[..., 4:].clamp(0, 1) * classes[:, :, None].clamp(0, 1)).flatten(1, 2)
        return boxes.flatten(1, 2)[:, :, None], scores

    def loss(self, values: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute squared errors, summed over cells, divided by the number of images.

        Responsible for a cell's object is its box of highest IoU (the nearest, if all are 0): box errors times
        `box_weight`, the target of its confidence is that IoU. The target of all other confidences is 0, times
        `background_weight`. Class errors count in cells with an object.
        """
        assert batch.targets is not None
        classes, raw = self.split(values)
        canvas = canvas_size(batch)
        objects = objects_of(batch.targets)
        assigned = assign_batch_cells(objects, self.grid, canvas)  # [B, S * S]
        image, cell = torch.nonzero(assigned >= 0, as_tuple=True)
        owner = assigned[image, cell]
        wanted, labels = objects.boxes[owner], objects.labels[owner]  # [P, 4], [P]

        mine, boxes = raw[image, cell], self.decode(raw.detach(), batch)[image, cell]  # [P, n, 5], [P, n, 4]
        best, overlap = responsible(boxes, wanted, canvas)
        answering = mine[torch.arange(len(mine), device=mine.device), best]  # [P, 5]
        cells, strides = self.cells(batch, raw.device)
        offsets = encode_root(wanted, cells[cell], strides, canvas)
        silent = (assigned == NEGATIVE)[:, :, None].expand(*raw.shape[:3]).clone()
        silent[image, cell] = ~F.one_hot(best, self.num_boxes).bool()
        confidence = (answering[:, 4] - overlap).square().sum()
        confidence = confidence + self.background_weight * (raw[..., 4].square() * silent).sum()
        wrong = (classes[image, cell] - F.one_hot(labels, self.num_classes)).square()
        return {
            "box": self.box_weight * (answering[:, :4] - offsets).square().sum() / len(batch),
            "confidence": confidence / len(batch),
            "class": wrong.sum() / len(batch),
        }

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Split into class scores float32 [B, S * S, C] and boxes with their confidence, [B, S * S, n, 5]."""
        values = values.float()
        return values[..., : self.num_classes], values[..., self.num_classes :].unflatten(-1, (self.num_boxes, 5))

    def cells(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """List the cells [S * S, 2], and their width and height in pixels of the canvas, [2]."""
        height, width = canvas_size(batch)
        return cell_grid((self.grid, self.grid), device), torch.tensor([width, height], device=device) / self.grid

    def decode(self, raw: Tensor, batch: Batch) -> Tensor:
        """Decode boxes [B, S * S, n, 4] xyxy on the canvas."""
        cells, strides = self.cells(batch, raw.device)
        return decode_root(raw, cells[:, None], strides, canvas_size(batch))


class YOLOv1(nn.Module):
    """YOLO v1 head: the paper's last four convolutions and two fully connected layers, on one map of any backbone.

    grid, num_boxes: S and n. channels, conv_strides: of the 3x3 convolutions, as many as there are strides. hidden: of
    the first fully connected layer; null: a 1x1 convolution, cell by cell, in place of both. dropout: after the first
    fully connected layer. A map that is not `grid` cells wide and high is average-pooled to that, so images may have
    any size.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        num_classes: int,
        grid: int = 7,
        num_boxes: int = 2,
        channels: int = 1024,
        conv_strides: Sequence[int] = (1, 2, 1, 1),
        hidden: int | None = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if len(features) != 1:
            raise UserError(
                f"model.dense_head (YOLOv1) reads one map, and is given {len(features)} (strides "
                f"{[feature.stride for feature in features]}): model=yolo_v1 or yolo_v1_light has one, or set "
                "model/neck=none model.strides=[32]"
            )
        self.output = YOLOv1Output(grid=grid, num_boxes=num_boxes, num_classes=num_classes)
        self.convs = nn.Sequential()
        for index, stride in enumerate(conv_strides):
            self.convs.append(conv_norm(features[-1].channels if index == 0 else channels, channels, 3, stride))
        self.to_grid = nn.AdaptiveAvgPool2d(grid)
        per_cell = num_classes + 5 * num_boxes
        if hidden is None:
            final: nn.Conv2d | nn.Linear = nn.Conv2d(channels, per_cell, 1)
            self.values = nn.Sequential(final, nn.Flatten(2))  # [B, values, S * S]
        else:
            final = nn.Linear(hidden, per_cell * grid**2)
            self.values = nn.Sequential(
                nn.Flatten(),
                nn.Linear(channels * grid**2, hidden),
                nn.LeakyReLU(0.1, inplace=True),
                nn.Dropout(dropout),
                final,
                nn.Unflatten(1, (per_cell, grid**2)),
            )
        nn.init.normal_(final.weight, std=0.01)
        with torch.no_grad():  # boxes start in the middle of their cells, small to large, so that each has its part
            assert final.bias is not None
            bias = final.bias.view(per_cell, -1)
            bias.zero_()
            boxes = bias[num_classes:].view(num_boxes, 5, -1)
            boxes[:, :2] = 0.5
            boxes[:, 2:4] = torch.linspace(0.3, 0.7, num_boxes)[:, None, None]

    def forward(self, features: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.output(self.cell_values(features), batch)
        return found

    def loss(self, features: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        return self.output.loss(self.cell_values(features), batch)

    def class_rows(self, num_classes: int) -> dict[str, Tensor]:
        """See `detkit.model.class_rows`: the classes come first, and a full layer has each number for every cell."""
        name, layer = next((n, p) for n, p in reversed(list(self.values.named_children())) if list(p.parameters()))
        cells = self.output.grid**2 if isinstance(layer, nn.Linear) else 1
        labels = torch.cat([torch.arange(num_classes), torch.full((5 * self.output.num_boxes,), OTHER)])
        return {f"values.{name}": labels.repeat_interleave(cells)}

    def cell_values(self, features: list[Tensor]) -> Tensor:
        """Compute the values of the cells: [B, S * S, C + 5 * n]."""
        values: Tensor = self.values(self.to_grid(self.convs(features[-1])))
        return values.transpose(1, 2)


def canvas_size(batch: Batch) -> Size:
    """Return (h, w) of the canvas."""
    return batch.images.shape[2], batch.images.shape[3]


def assign_cells(boxes: Tensor, difficult: Tensor, grid: int, canvas: Size) -> Tensor:
    """Assign objects to the cells of a grid over a canvas (h, w): int64 [S * S], an index >= 0, NEGATIVE or IGNORE.

    A cell is assigned the first object of the list whose centre it holds; it is IGNORE if it holds difficult ones
    alone.
    """
    labels = torch.zeros_like(difficult, dtype=torch.int64)
    return assign_batch_cells(objects_of([{"boxes": boxes, "labels": labels, "difficult": difficult}]), grid, canvas)[0]


def assign_batch_cells(objects: Objects, grid: int, canvas: Size) -> Tensor:
    """Assign objects to the cells of B images as `assign_cells` does: int64 [B, S * S], indices of `objects`."""
    centre = centre_size(objects.boxes)[0] / objects.boxes.new_tensor([canvas[1], canvas[0]])
    column, row = (centre * grid).long().clamp(0, grid - 1).unbind(dim=1)
    place = (objects.image * grid + row) * grid + column
    count, none = len(objects.counts) * grid * grid, len(objects.boxes)
    hard = place.new_zeros(count).index_add_(0, place, objects.difficult.long())
    who = torch.arange(none, device=place.device)
    claims = torch.where(objects.difficult, count, place)  # the last place is for difficult objects
    first = place.new_full((count + 1,), none).scatter_reduce(0, claims, who, "amin")[:count]
    matches = torch.where(first < none, first, torch.where(hard > 0, IGNORE, NEGATIVE))
    return matches.view(len(objects.counts), grid * grid)


def responsible(boxes: Tensor, wanted: Tensor, canvas: Size) -> tuple[Tensor, Tensor]:
    """Find the box of each cell [P, n, 4] that is responsible for its object [P, 4]: int64 [P], and its IoU [P].

    That is the one of highest IoU or, if all are 0, of least squared distance of centre and size as shares of the
    canvas.
    """
    overlap = paired_iou(boxes, wanted[:, None])  # [P, n]
    shares = wanted.new_tensor([canvas[1], canvas[0], canvas[1], canvas[0]])
    distance = (torch.cat(centre_size(boxes), -1) - torch.cat(centre_size(wanted), -1)[:, None]) / shares
    nearest = distance.square().sum(dim=2).argmin(dim=1)
    highest, best = overlap.max(dim=1)
    best = torch.where(highest > 0, best, nearest)
    return best, overlap.gather(1, best[:, None]).squeeze(1)
