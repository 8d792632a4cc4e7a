"""Define the interface between the commands and a task: reading, accumulating, measuring, telling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detkit.config.instantiate import load
from detkit.core.errors import UserError
from detkit.core.plain import Metrics, Settings
from detkit.data.annotations import Annotations
from detkit.data.dataset import DetectionDataset
from detkit.data.split import TrainingSplits, read_measured_split, read_training_splits

Found = TypeVar("Found")  # what `predict` gives for one image
Results = TypeVar("Results")  # what was found in a whole split
Taken = TypeVar("Taken", contravariant=True)
Gathered = TypeVar("Gathered", covariant=True)


class Accumulator(Protocol[Taken, Gathered]):
    """Gathers what a model finds in the images of a split, each process in its share."""

    def add(self, images: Sequence[int], found: Sequence[Taken]) -> None:
        """Take in some images, by their index in the split; what was found is on the CPU."""

    def part(self) -> Any:
        """What this process has gathered, to be sent to the main one."""

    def merge(self, parts: Sequence[Any]) -> Gathered:
        """The results of the images of all `parts`, in the order of the split."""


class Task(ABC, Generic[Found, Results]):
    """What a model is for: how its data are read, its results gathered, measured, shown and written.

    A model names its task by the dotted path of the class (`Detector.task`), and `task_of(model)` makes it; training,
    evaluation, comparison, prediction and the pages ask the task and know no other. A task has no state.

    What `predict` of the model gives for an image must have `to(device)`. Metrics are nested dicts that json.dumps
    takes, numbers as fractions, None for what could not be measured; "protocol" in them says how it was measured and
    has num_images.
    """

    noun: ClassVar[str]  # what is found in images, in the plural: the key of its rows in predictions.json

    # What it learns from. By default that are boxes: other data override these.

    def read_training_splits(self, data: Settings) -> TrainingSplits:
        """The splits of a data config, read and checked before the first step; raises UserError."""
        return read_training_splits(data)

    def read_test_split(self, data: Settings, split: str | None, classes: Sequence[str]) -> Annotations:
        """The split to evaluate a model with `classes` on; raises UserError."""
        return read_measured_split(data, split, classes)

    def dataset(self, annotations: Annotations, **settings: Any) -> DetectionDataset:
        """The samples of a split; settings: as of `DetectionDataset`."""
        return DetectionDataset(annotations, **settings)

    def describe(self, annotations: Annotations) -> str:
        """What is in a split, for the first lines of a training."""
        return (
            f"{annotations.source}: {len(annotations)} images, {len(annotations.labels)} objects of "
            f"{len(annotations.classes)} classes ({', '.join(annotations.classes[:20])})"
        )

    # How it is measured.

    @abstractmethod
    def accumulator(self, model: Any, annotations: Annotations) -> AbstractContextManager[Accumulator[Found, Results]]:
        """What gathers the results of `model` on a split, open while the model runs over it."""

    @abstractmethod
    def evaluate(self, results: Results, annotations: Annotations) -> Metrics:
        """The metrics of a split."""

    @abstractmethod
    def metric_names(self) -> list[str]:
        """The dotted names of the overall numbers, like voc.mAP_area: each can choose the best weights."""

    @abstractmethod
    def accuracies(self, metrics: Metrics) -> dict[str, float | None]:
        """The numbers by which models are compared, by the keys of `columns`."""

    columns: ClassVar[Mapping[str, str]]  # headings of the accuracies in a comparison, by key
    main: ClassVar[str]  # the one of them that differences and the chart are of

    # How it is told.

    legend: ClassVar[str] = ""  # a sentence on how to read its pictures

    @abstractmethod
    def table(self, metrics: Metrics) -> list[str]:
        """The paragraphs of text that tell the metrics, without times."""

    def write(self, folder: Path, metrics: Metrics, results: Results, annotations: Annotations) -> None:
        """Write the files of an evaluation beside metrics.json: predictions, and plots into `plots/`."""

    @abstractmethod
    def draw_example(self, image: NDArray[np.uint8], results: Results, annotations: Annotations, index: int) -> Any:
        """A PIL image of what was found in image `index` of the split, beside what there is."""

    def tiles(self, metrics: Metrics) -> dict[str, str]:
        """The large numbers at the top of a report, as text by name; "" is left out."""
        values = {name: select(metrics, name) for name in self.metric_names()}
        return {name: "" if value is None else f"{100 * value:.1f}" for name, value in values.items()}

    curves: ClassVar[Mapping[str, str]] = {}  # what of the validations a report draws: names, by last part of the key

    def sections(self, metrics: Metrics) -> tuple[list[str], list[str]]:
        """HTML for the report, before and after the pictures; `metrics` may be empty."""
        return [], []

    # Single images.

    @abstractmethod
    def keep(
        self, found: Found, names: Sequence[str], score_threshold: float | None, labels: Sequence[int] | None
    ) -> Found:
        """What was found, with the class names, from a score on and of some classes alone; None keeps all."""

    @abstractmethod
    def rows(self, found: Found) -> Sequence[Mapping[str, object]]:
        """What was found in an image, ready for JSON; the "name" of each is its class."""

    @abstractmethod
    def draw(self, image: NDArray[np.uint8], found: Found) -> Image.Image:
        """What was found, drawn on uint8 [H, W, 3] RGB."""


AnyTask: TypeAlias = Task[Any, Any]  # of results that whoever asks only hands on


def task_of(model: object) -> AnyTask:
    """The task that a model names as its `task`; raises UserError where that is none."""
    named = str(getattr(model, "task", None))
    kind = load(named, "task")
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise UserError(f"{type(model).__name__}.task={getattr(model, 'task', None)} is no detkit.task.base.Task")
    return kind()


def select(metrics: Metrics, name: str) -> float | None:
    """The number at a dotted name like voc.mAP_area; None where there was nothing to measure."""
    value: Any = metrics
    for key in name.split("."):
        value = value[key]
    found: float | None = value
    return found
