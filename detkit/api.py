"""Detectors for programs: `detkit.load("best.pt").predict("photo.jpg")`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from detkit.config import build_from_checkpoint, build_source, with_test_settings
from detkit.data.dataset import Sample
from detkit.data.image import read_image, to_rgb
from detkit.data.loader import collate
from detkit.data.preprocess import Decoded, Preprocess
from detkit.engine.checkpoint import load_checkpoint
from detkit.engine.detect import autocast, place_for_inference, to_device
from detkit.engine.distributed import choose_device
from detkit.errors import UserError
from detkit.model.detector import Detector
from detkit.proposal.cache import Source
from detkit.types import Batch, Detections, Target

OneImage: TypeAlias = "str | PathLike[str] | NDArray[Any] | Image.Image | Tensor"
NOTHING: Mapping[str, Any] = MappingProxyType({})


def load(
    checkpoint: str | PathLike[str],
    *,
    device: str = "auto",
    precision: str = "fp32",
    runtime: str = "eager",
    source: Source | None = None,
    preprocess: Mapping[str, Any] = NOTHING,
    postprocess: Mapping[str, Any] = NOTHING,
    trust: str | Sequence[str] = (),
) -> LoadedDetector:
    """The detector in a checkpoint file, or in a run folder (its best checkpoint), ready to predict.

    device: auto takes CUDA where there is one. precision: fp32, bf16 or fp16. runtime: eager, onnx (ONNX Runtime), or
    compiled, which is faster after a first image that waits for the compiler. source: of the regions, for a detector
    that takes them from outside; None is what it was trained with. preprocess, postprocess: other settings than those
    of the checkpoint: side, decode; score_threshold, nms_iou, max_detections (`configs/test_settings.yaml`).
    trust: modules of your own whose parts the checkpoint may name, ["mynet"]; they are imported.
    Raises UserError naming the file where it is missing or no checkpoint. Code in a checkpoint is never run.
    """
    content = load_checkpoint(Path(checkpoint), trust=trust)
    content = with_test_settings(content, preprocess=preprocess, postprocess=postprocess)
    return LoadedDetector(
        build_from_checkpoint(content),
        classes=content["classes"],
        device=choose_device(device),
        precision=precision,
        runtime=runtime,
        source=source or build_source(content, for_any_image=True),
    )


class LoadedDetector:
    """A detector with its class names, on its device, ready to predict; it takes over the detector it is given."""

    def __init__(
        self,
        detector: Detector,
        *,
        classes: Sequence[str],
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        runtime: str = "eager",
        source: Source | None = None,
    ) -> None:
        self.device = torch.device(device)
        autocast(self.device, precision)  # a wrong precision is told now, not at the first image
        self.precision = precision
        self.detector = place_for_inference(detector, self.device, channels_last=True, runtime=runtime)
        self.classes = list(classes)
        self.source = source

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes the detector's input."""
        return self.detector.preprocess

    @overload
    def predict(
        self, inputs: OneImage, *, score_threshold: float | None = ..., batch_size: int = ...
    ) -> Detections: ...

    @overload
    def predict(
        self, inputs: list[Any] | tuple[Any, ...], *, score_threshold: float | None = ..., batch_size: int = ...
    ) -> list[Detections]: ...

    def predict(
        self, inputs: Any, *, score_threshold: float | None = None, batch_size: int = 1
    ) -> Detections | list[Detections]:
        """The objects in one image (-> Detections) or in a sequence of images (-> a list, in order).

        An image is a path, an array [H, W, 3] uint8 RGB, a PIL image, or a tensor [3, H, W] uint8 or float 0..1.
        A sequence is a list, a tuple, or an array or tensor of images stacked along a first dimension.
        Boxes are in pixels of the image as given; a file is turned upright by its EXIF tag first.
        score_threshold: keep scores of at least this; None keeps all above the threshold in the detector's config.
        batch_size: images in one forward pass.
        Raises UserError naming the input that is no image.
        """
        if _is_one(inputs):
            return next(self.stream([inputs], score_threshold=score_threshold))
        return list(self.stream(inputs, score_threshold=score_threshold, batch_size=batch_size))

    def stream(
        self, inputs: Iterable[OneImage], *, score_threshold: float | None = None, batch_size: int = 1
    ) -> Iterator[Detections]:
        """As `predict`, one by one: holds no more than `batch_size` images, so a video or a long list fits."""
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: at least 1")
        images: list[Decoded] = []
        for item in inputs:
            images.append(self._decoded(item))
            if len(images) == batch_size:
                yield from self._forward(images, score_threshold)
                images = []
        if images:
            yield from self._forward(images, score_threshold)

    @torch.inference_mode()
    def propose(self, image: OneImage) -> Tensor:
        """The regions in which a two-stage detector looks, best first: float32 [P, 4] xyxy in pixels of the image.

        Raises UserError where the detector has no such regions.
        """
        if not callable(propose := getattr(self.detector, "propose", None)):
            raise UserError(f"{type(self.detector).__name__} proposes no regions: only two-stage detectors do")
        with autocast(self.device, self.precision):
            return propose(self._batch([self._decoded(image)]))[0].float().cpu()

    @torch.inference_mode()
    def _forward(self, images: Sequence[Decoded], score_threshold: float | None) -> list[Detections]:
        with autocast(self.device, self.precision):
            found = self.detector.predict(self._batch(images))
        named = [replace(one.to("cpu"), names=self.classes) for one in found]
        return named if score_threshold is None else [one[one.scores >= score_threshold] for one in named]

    def _decoded(self, item: OneImage) -> Decoded:
        if isinstance(item, (str, PathLike)) and self.source is None:  # which looks for regions in all pixels
            return self.preprocess.read(Path(item))
        image = as_rgb(item)
        return image, (image.shape[0], image.shape[1])

    def _batch(self, images: Sequence[Decoded]) -> Batch:
        samples = []
        for index, (image, size) in enumerate(images):
            target = Target(image_id=str(index), original_size=size)
            if self.source is not None:
                target["proposals"] = torch.from_numpy(self.preprocess.to_input(self.source(image), size))
            canvas = torch.from_numpy(np.ascontiguousarray(self.preprocess(image, size))).permute(2, 0, 1)
            samples.append(Sample(canvas, target))
        batch = replace(collate(samples, self.preprocess.pad_multiple), targets=None)
        return to_device(batch, self.device, channels_last=True)

    def __repr__(self) -> str:
        return f"LoadedDetector({len(self.classes)} classes, {self.preprocess}, {self.device}, {self.precision})"


def as_rgb(image: OneImage) -> NDArray[np.uint8]:
    """Any kind of image as uint8 [H, W, 3] RGB; raises UserError saying what it is instead."""
    if isinstance(image, (str, PathLike)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or not (image.dtype == torch.uint8 or image.is_floating_point()):
            raise UserError(
                f"a tensor image is [3, H, W] uint8 or float 0..1, not {list(image.shape)} {image.dtype}"
                + ("; for [H, W, 3] pass an array or use .permute(2, 0, 1)" if image.shape[-1:] == (3,) else "")
            )
        if image.is_floating_point():
            image = (image * 255).round().clamp(0, 255).to(torch.uint8)
        return image.detach().permute(1, 2, 0).contiguous().cpu().numpy()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(f"an array image is [H, W, 3] uint8 RGB, not {list(image.shape)} {image.dtype}")
        return image
    raise UserError(f"an image is a path, an array, a PIL image or a tensor, not {type(image).__name__}")


def _is_one(inputs: Any) -> bool:
    if isinstance(inputs, (np.ndarray, Tensor)):
        return inputs.ndim <= 3
    return isinstance(inputs, (str, PathLike, Image.Image))
