"""Load detectors in programs: `detkit.load("best.pt").predict("photo.jpg")`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

from detkit.checkpoint.build import build_from_checkpoint, build_source, with_inference_settings
from detkit.checkpoint.darknet.program import with_program
from detkit.config.values import check_value
from detkit.core.distributed import choose_device
from detkit.core.errors import UserError
from detkit.core.plain import Settings
from detkit.core.structures import Batch, Detections, ProposalSource, Target
from detkit.core.suggest import among
from detkit.data.canvas import run_in_order
from detkit.data.dataset import Sample
from detkit.data.loader import collate
from detkit.image.pixels import array_to_rgb, tensor_to_rgb
from detkit.image.preprocess import Decoded, Preprocess
from detkit.image.read import read_image, to_rgb
from detkit.infer.detect import place_for_inference
from detkit.infer.execution import Execution
from detkit.infer.open_checkpoint import load_checkpoint
from detkit.model.detector import Detector
from detkit.task.base import task_of
from detkit.task.detection.prediction import Prediction

OneImage: TypeAlias = "str | PathLike[str] | NDArray[Any] | Image.Image | Tensor"
NOTHING: Settings = MappingProxyType({})


def load(
    checkpoint: str | PathLike[str],
    *,
    device: str = "auto",
    precision: str = "fp32",
    runtime: str = "eager",
    source: ProposalSource | None = None,
    preprocess: Settings = NOTHING,
    postprocess: Settings = NOTHING,
    darknet: Settings = NOTHING,
    trust: str | Sequence[str] = (),
) -> LoadedDetector:
    """The detector in a checkpoint file, or in a run folder (its best checkpoint), ready to predict.

    device: auto takes CUDA where there is one. precision: fp32, bf16 or fp16. runtime: eager, onnx (ONNX Runtime), or
    compiled, which is faster after a first image that waits for the compiler. source: of the regions, for a detector
    that takes them from outside; None is what it was trained with. preprocess, postprocess: other settings than those
    of the checkpoint: side, decode; score_threshold, nms_iou, max_detections, nms_kind (`configs/inference.yaml`).
    darknet: of a Darknet network, test=pjreddie or alexeyab, whose settings these are, and letterbox.
    trust: modules of your own whose parts the checkpoint may name, ["mynet"]; they are imported.
    Raises UserError naming the file where it is missing or no checkpoint. Code in a checkpoint is never run.
    """
    for part, settings in (("preprocess", preprocess), ("postprocess", postprocess), ("darknet", darknet)):
        for key, value in settings.items():
            _checked(f"{part}.{key}", value)
    saved = load_checkpoint(Path(checkpoint), trust=trust)
    saved = with_program(saved, **darknet)
    saved = with_inference_settings(saved, preprocess=preprocess, postprocess=postprocess)
    return LoadedDetector(
        build_from_checkpoint(saved),
        classes=saved.classes,
        device=choose_device(device),
        precision=precision,
        runtime=runtime,
        source=source or build_source(saved, for_any_image=True),
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
        source: ProposalSource | None = None,
    ) -> None:
        self.execution = Execution(torch.device(device), precision, runtime=runtime)
        self.detector = place_for_inference(detector, self.execution)
        self.task = task_of(self.detector)
        self.classes = list(classes)
        self.source = source

    @property
    def device(self) -> torch.device:
        """Where the detector is."""
        return self.execution.device

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes the detector's input."""
        return self.detector.preprocess

    @overload
    def predict(
        self,
        inputs: OneImage,
        *,
        score_threshold: float | None = ...,
        batch_size: int = ...,
        classes: Sequence[str] | None = ...,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        inputs: list[Any] | tuple[Any, ...],
        *,
        score_threshold: float | None = ...,
        batch_size: int = ...,
        classes: Sequence[str] | None = ...,
    ) -> list[Prediction]: ...

    def predict(
        self,
        inputs: Any,
        *,
        score_threshold: float | None = None,
        batch_size: int = 1,
        classes: Sequence[str] | None = None,
    ) -> Prediction | list[Prediction]:
        """The objects in one image (-> Prediction, a `Detections`) or in a sequence of images (-> a list, in order).

        An image is a path, an array [H, W, 3] RGB, [H, W] or [H, W, 4], a PIL image, or a tensor [3, H, W]; integers
        are 0..255, floats 0..1. Of a file with several pictures (an animated GIF) it is the first.
        A sequence is a list, a tuple, or an array or tensor of images stacked along a first dimension.
        Boxes are in pixels of the image as given; a file is turned upright by its EXIF tag first.
        score_threshold: keep scores of at least this; None keeps all above the threshold in the detector's config.
        batch_size: images in one forward pass; only images of one canvas share it, so it changes no detection.
        classes: keep these, by name; None keeps all.
        Raises UserError naming the input that is no image, and the value that cannot be.
        """
        options: dict[str, Any] = {"score_threshold": score_threshold, "batch_size": batch_size, "classes": classes}
        if _is_one(inputs):
            return next(self.stream([inputs], **options))
        return list(self.stream(inputs, **options))

    def stream(
        self,
        inputs: Iterable[OneImage],
        *,
        score_threshold: float | None = None,
        batch_size: int = 1,
        classes: Sequence[str] | None = None,
    ) -> Iterator[Prediction]:
        """As `predict`, one by one: a video or a long list fits.

        Holds no more than `batch_size` images, and four times as many where they are of several sizes.
        """
        score_threshold = _checked("score_threshold", score_threshold)
        batch_size = _checked("batch_size", batch_size)
        labels = None if classes is None else self.labels_of(classes)

        def forward(samples: list[Sample]) -> list[Prediction]:
            return [self.task.keep(one, self.classes, score_threshold, labels) for one in self._forward(samples)]

        samples = (self._sample(str(index), item) for index, item in enumerate(inputs))
        return run_in_order(samples, self.preprocess.pad_multiple, batch_size, forward)

    def labels_of(self, classes: Sequence[str] | str) -> list[int]:
        """The labels of classes by name; raises UserError for a name that the detector does not have."""
        names = _checked("classes", [classes] if isinstance(classes, str) else list(classes))
        for name in names:
            if name not in self.classes:
                raise UserError(f"classes={name}: the detector has no such class{among(name, self.classes)}")
        return [self.classes.index(name) for name in names]

    @torch.inference_mode()
    def propose(self, image: OneImage) -> Tensor:
        """The regions in which a two-stage detector looks, best first: float32 [P, 4] xyxy in pixels of the image.

        Raises UserError where the detector has no such regions.
        """
        if not callable(propose := getattr(self.detector, "propose", None)):
            raise UserError(f"{type(self.detector).__name__} proposes no regions: only two-stage detectors do")
        with self.execution.autocast():
            regions: Tensor = propose(self._batch([self._sample("0", image)]))[0]
        return regions.float().cpu()

    @torch.inference_mode()
    def _forward(self, samples: Sequence[Sample]) -> list[Detections]:
        with self.execution.autocast():
            found = self.detector.predict(self._batch(samples))
        return [one.to("cpu") for one in found]

    def _sample(self, name: str, item: OneImage) -> Sample:
        image, size = self._decoded(item)
        target = Target(image_id=name, original_size=size)
        if self.source is not None:
            target["proposals"] = torch.from_numpy(self.preprocess.to_input(self.source(image), size))
        return Sample(torch.from_numpy(np.ascontiguousarray(self.preprocess(image, size))).permute(2, 0, 1), target)

    def _decoded(self, item: OneImage) -> Decoded:
        if isinstance(item, (str, PathLike)) and self.source is None:  # which looks for regions in all pixels
            return self.preprocess.read(Path(item))
        image = as_rgb(item)
        return image, (image.shape[0], image.shape[1])

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        batch = replace(collate(samples, self.preprocess.pad_multiple), targets=None)
        return self.execution.place(batch)

    def __repr__(self) -> str:
        where = f"{self.device}, {self.execution.precision}"
        return f"LoadedDetector({len(self.classes)} classes, {self.preprocess}, {where})"


def as_rgb(image: OneImage) -> NDArray[np.uint8]:
    """Any kind of image as uint8 [H, W, 3] RGB; raises UserError saying what it is instead."""
    if isinstance(image, (str, PathLike)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise UserError(f"a PIL image of {image.size[0]} x {image.size[1]} has no pixels")
        return to_rgb(image)
    if isinstance(image, Tensor):
        return tensor_to_rgb(image)
    if isinstance(image, np.ndarray):
        return array_to_rgb(image)
    raise UserError(f"an image is a path, an array, a PIL image or a tensor, not {type(image).__name__}")


def _checked(key: str, value: Any) -> Any:
    """A value as the command line would take it."""
    return check_value("predict", key, value.item() if isinstance(value, np.generic) else value)


def _is_one(inputs: Any) -> bool:
    if isinstance(inputs, (np.ndarray, Tensor)):
        return inputs.ndim <= 3
    return isinstance(inputs, (str, PathLike, Image.Image))
