"""Stream the features of the regions of a split, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor
from tqdm import tqdm

from detkit.core.structures import Target
from detkit.data.canvas import CanvasLoader
from detkit.evaluate.draw_examples import spread
from detkit.infer.execution import Execution
from detkit.model.roi_head.rcnn import RCNNHead
from detkit.model.two_stage import TwoStageDetector


class ImageRegions(NamedTuple):
    """The regions of one image: `num_proposals` proposals, then the ground truths that are not difficult, in order.

    boxes: float32 [N, 4] xyxy on the canvas. features: float32 [N, D], what the predictor reads. target: all ground
    truths, on the canvas.
    """

    boxes: Tensor
    features: Tensor
    num_proposals: int
    target: Target


@torch.inference_mode()
def stream_regions(
    detector: TwoStageDetector,
    loader: CanvasLoader,
    execution: Execution,
    *,
    description: str,
    most: Mapping[int, int] | None = None,
) -> Iterator[ImageRegions]:
    """The regions of each image of a split, in order; nothing of an image is kept.

    detector: one whose `roi_head` is an `RCNNHead`, in eval mode. loader: of `evaluation_loader`,
    one image a batch.
    most: how many proposals, evenly spread over their ranks, of the images it names by index, and none of the
    others; None for all proposals of all images. description: of the progress bar.
    """
    head = cast(RCNNHead, detector.roi_head)
    with tqdm(total=len(loader), desc=description, unit="img", disable=None) as bar:
        for index, batch in enumerate(loader):
            batch = execution.place(batch)
            assert batch.targets is not None
            target = batch.targets[0]
            with execution.autocast():
                maps = detector.features(batch)
                (proposals,) = detector.proposer(maps, batch)
                if most is not None:
                    proposals = proposals[spread(len(proposals), most.get(index, 0))]
                boxes = torch.cat([proposals, target["boxes"][~target["difficult"]]])
                features = head.describe(maps, [boxes]).float()
            yield ImageRegions(boxes, features, len(proposals), target)
            bar.update()
