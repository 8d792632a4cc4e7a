"""Run `detkit predict`: detect in images or a video, write annotated copies and predictions.json."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from tqdm import tqdm

from detkit.config.instantiate import build
from detkit.core.errors import UserError
from detkit.core.structures import Size
from detkit.image.read import read_frames
from detkit.image.source import Input, find_inputs
from detkit.image.video import VIDEO_SUFFIXES, VideoReader, VideoWriter
from detkit.infer.loaded_detector import LoadedDetector, load
from detkit.run.own_folder import PREDICTIONS, own_folder


class Options(TypedDict):
    """How a detector is asked: see `LoadedDetector.predict`."""

    score_threshold: float | None
    batch_size: int
    classes: Sequence[str] | None


class Place(TypedDict, total=False):
    """Which picture it is: a file, or one of the pictures in it, or a frame of a video."""

    image: str
    video: str
    frame: int
    time_s: float


@dataclass(frozen=True)
class Predicted:
    """What was found in a picture of this size, or why it could not be read."""

    place: Place
    size: Size = (0, 0)
    found: Sequence[Mapping[str, object]] = ()
    error: str | None = None

    def to_row(self, noun: str) -> Mapping[str, object]:
        """The row of predictions.json; noun: what is found, in the plural."""
        if self.error is not None:
            return {**self.place, "error": self.error}
        return {**self.place, "height": self.size[0], "width": self.size[1], noun: self.found}


def run_predict(cfg: DictConfig) -> Mapping[str, float]:
    """Predict as `configs/predict.yaml` says, into `cfg.run_dir`; returns the summary that it prints."""
    source = cfg.source if isinstance(cfg.source, (str, int)) else list(cfg.source)
    with TemporaryDirectory(prefix="detkit_") as fetched:
        inputs = find_inputs(source, Path(fetched))  # before the checkpoint: a mistyped path answers at once
        detector = load(
            cfg.checkpoint,
            device=cfg.device,
            precision=cfg.precision,
            runtime=cfg.runtime,
            preprocess=cfg.preprocess,
            postprocess=cfg.postprocess,
            darknet=cfg.darknet,
            source=build(cfg.get("proposal"), "proposal"),
            trust=cfg.trust,
        )
        classes = None if cfg.classes is None else list(cfg.classes)
        if classes is not None:
            detector.labels_of(classes)  # a mistyped one, too
        with own_folder(Path(cfg.run_dir), PREDICTIONS) as run_dir:
            return predict_files(
                detector,
                inputs,
                run_dir,
                root=Path(source) if isinstance(source, str) and Path(source).is_dir() else None,
                score_threshold=cfg.score_threshold,
                batch_size=cfg.batch_size,
                classes=classes,
                pictures=cfg.pictures,
            )


def predict_files(
    detector: LoadedDetector,
    inputs: Sequence[Path] | Mapping[Input, str],
    run_dir: Path,
    *,
    root: Path | None = None,
    score_threshold: float | None = 0.5,
    batch_size: int = 1,
    classes: Sequence[str] | None = None,
    pictures: bool = True,
) -> Mapping[str, float]:
    """Write `predictions.json` and, if asked, `pictures/` into `run_dir`; a file that cannot be read is skipped.

    inputs: files and cameras, as mapping with the name of each for the rows. root: names of pictures are relative to
    this folder. predictions.json is a list with one row per picture or frame, complete up to the last one even where
    the run is interrupted; of a camera that is how it ends. classes: keep these alone.
    Returns files, images, detections (the noun of the task), unreadable, seconds.
    Raises UserError where no file could be read.
    """
    start, noun = time.perf_counter(), detector.task.noun
    counts: Counter[str] = Counter()
    per_class: Counter[str] = Counter()
    files = list(inputs)
    called = inputs if isinstance(inputs, Mapping) else {file: str(file) for file in files}
    options: Options = {"score_threshold": score_threshold, "batch_size": batch_size, "classes": classes}
    faults: list[str] = []
    run_dir.mkdir(parents=True, exist_ok=True)
    names = picture_names(files, root)
    videos = [file for file in files if isinstance(file, int) or file.suffix.lower() in VIDEO_SUFFIXES]
    images = [file for file in files if isinstance(file, Path) and file not in set(videos)]
    with JsonRows(run_dir / "predictions.json") as rows:
        folder = run_dir / "pictures" if pictures else None
        found = [_predict_images(detector, images, names, called, folder, options)]
        found += [_predict_video(detector, video, called[video], names[video], folder, options) for video in videos]
        for one in chain.from_iterable(found):
            rows.add(one.to_row(noun))
            if one.error is None:
                counts["images"] += 1
                counts[noun] += len(one.found)
                per_class.update(str(item["name"]) for item in one.found)
                continue
            counts["unreadable"] += 1
            faults.append(one.error)
            if len(files) > 1:
                tqdm.write(f"skipped: {one.error}", file=sys.stderr)
    seconds = time.perf_counter() - start
    if not counts["images"]:
        first = faults[0] if faults else f"{called[files[0]]} has no pictures"
        raise UserError(first if len(files) == 1 else f"none of the {len(files)} files could be read: {first}")
    listed = ", ".join(f"{name} {count}" for name, count in per_class.most_common())
    print(f"{counts['images']} images, {counts[noun]} {noun}" + (f" ({listed})" if listed else ""))
    if counts["unreadable"]:
        print(f"{counts['unreadable']} files could not be read; predictions.json names them")
    print(f"{1000 * seconds / counts['images']:.0f} ms per image with reading and writing; written to {run_dir}")
    return {
        "files": len(files),
        **{key: counts[key] for key in ("images", noun, "unreadable")},
        "seconds": seconds,
    }


def picture_names(files: Sequence[Input], root: Path | None) -> dict[Input, Path]:
    """A relative name without collisions for the annotated copy of each file, .jpg."""
    names: dict[Input, Path] = {}
    taken: set[Path] = set()
    for file in files:
        if isinstance(file, int):
            plain = Path(f"camera{file}")
        else:
            plain = file.relative_to(root) if root is not None else Path(file.name)
        name, number = plain.with_suffix(".jpg"), 1
        while name in taken:
            number += 1
            name = plain.with_name(f"{plain.stem}_{number}.jpg")
        taken.add(name)
        names[file] = name
    return names


class JsonRows:
    """A JSON list written row by row, closed properly whatever ends the loop. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._separator = "["

    def add(self, row: Mapping[str, object]) -> None:
        """Append one row."""
        self._file.write(f"{self._separator}\n{json.dumps(row, ensure_ascii=False)}")
        self._separator = ","

    def __enter__(self) -> JsonRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.write("[]\n" if self._separator == "[" else "\n]\n")
        self._file.close()


class Picture(NamedTuple):
    """A picture that is with the detector. frame: its number in its file, where that has several."""

    file: Path
    frame: int | None
    image: NDArray[np.uint8]


def _predict_images(
    detector: LoadedDetector,
    files: list[Path],
    names: Mapping[Input, Path],
    called: Mapping[Input, str],
    folder: Path | None,
    options: Options,
) -> Iterator[Predicted]:
    again = detector.preprocess.decode == "reduced"  # what is drawn on has all pixels, what the detector sees has not
    pictures: deque[Picture] = deque()
    errors: list[Predicted] = []

    def read() -> Iterator[Path | NDArray[np.uint8]]:
        for file in tqdm(files, unit="image", disable=len(files) < 2, file=sys.stderr):
            try:
                for frame, image in read_frames(file):
                    pictures.append(Picture(file, frame, image))
                    yield file if again and frame is None else image
            except UserError as error:
                errors.append(Predicted({"image": called[file]}, error=str(error)))

    for found in detector.stream(read(), **options):
        file, frame, image = pictures.popleft()
        if folder is not None:
            name = names[file] if frame is None else names[file].with_name(f"{names[file].stem}_{frame:04d}.jpg")
            picture = folder / name
            picture.parent.mkdir(parents=True, exist_ok=True)
            detector.task.draw(image, found).save(picture, quality=90)
        place: Place = {"image": called[file]} if frame is None else {"image": called[file], "frame": frame}
        yield Predicted(place, (image.shape[0], image.shape[1]), detector.task.rows(found))
        yield from errors
        errors.clear()
    yield from errors


def _predict_video(
    detector: LoadedDetector, file: Input, called: str, name: Path, folder: Path | None, options: Options
) -> Iterator[Predicted]:
    try:
        reader = VideoReader(file)
    except UserError as error:
        yield Predicted({"video": called}, error=str(error))
        return
    if folder is not None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (
        suppress(KeyboardInterrupt) if isinstance(file, int) else nullcontext(),  # which ends a camera, and in order
        VideoWriter(folder / name, reader.fps) if folder is not None else nullcontext() as writer,
    ):
        one_by_one: Options = {**options, "batch_size": 1}
        frames = tqdm(reader, total=reader.num_frames or None, unit="frame", desc=called, file=sys.stderr)
        for index, frame in enumerate(frames):
            found = detector.predict(frame, **one_by_one)
            if writer is not None:
                writer.write(np.asarray(detector.task.draw(frame, found)))
            place: Place = {"video": called, "frame": index, "time_s": index / reader.fps}
            yield Predicted(place, (frame.shape[0], frame.shape[1]), detector.task.rows(found))
