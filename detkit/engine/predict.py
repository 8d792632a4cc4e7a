"""`detkit predict`: a checkpoint over pictures or a video; annotated copies and one JSON file come out."""

from __future__ import annotations

import glob
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from tqdm import tqdm

from detkit.api import LoadedDetector, load
from detkit.config import build
from detkit.data.image import IMAGE_SUFFIXES, read_image
from detkit.engine.own_folder import PREDICTIONS, own_folder
from detkit.engine.video import VIDEO_SUFFIXES, VideoReader, VideoWriter
from detkit.errors import UserError
from detkit.types import Detections
from detkit.visualize.draw import draw_detections


def run_predict(cfg: DictConfig) -> dict[str, Any]:
    """Predict as `configs/predict.yaml` says, into `cfg.run_dir`; returns the summary that it prints."""
    files = find_sources(cfg.source)  # before the checkpoint: a mistyped path answers at once
    detector = load(
        cfg.checkpoint,
        device=cfg.device,
        precision=cfg.precision,
        runtime=cfg.runtime,
        preprocess=cfg.preprocess,
        postprocess=cfg.postprocess,
        source=build(cfg.get("proposal"), "proposal"),
        trust=cfg.trust,
    )
    with own_folder(Path(cfg.run_dir), PREDICTIONS) as run_dir:
        return predict_files(
            detector,
            files,
            run_dir,
            root=Path(cfg.source) if Path(cfg.source).is_dir() else None,
            score_threshold=cfg.score_threshold,
            batch_size=cfg.batch_size,
            pictures=cfg.pictures,
        )


def find_sources(source: str) -> list[Path]:
    """The pictures and videos that `source` names: a file, all below a folder, or the matches of a glob, sorted.

    Raises UserError where there is none.
    """
    path = Path(source)
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file()]
    else:
        found = [Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file()]
    if not found:
        reason = "is a folder without pictures or videos" if path.is_dir() else "is no file, folder or matching pattern"
        raise UserError(f"source={source} {reason} (known: {' '.join(sorted(known))})")
    return sorted(found)


def predict_files(
    detector: LoadedDetector,
    files: list[Path],
    run_dir: Path,
    *,
    root: Path | None = None,
    score_threshold: float | None = 0.5,
    batch_size: int = 1,
    pictures: bool = True,
) -> dict[str, Any]:
    """Write `predictions.json` and, if asked, `pictures/` into `run_dir`; a file that cannot be read is skipped.

    root: names in both are relative to this folder. predictions.json is a list with one row per picture or frame,
    complete up to the last one even where the run is interrupted.
    Returns files, images, detections, unreadable, seconds. Raises UserError where no file could be read.
    """
    start = time.perf_counter()
    counts: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    options = {"score_threshold": score_threshold, "batch_size": batch_size}
    run_dir.mkdir(parents=True, exist_ok=True)
    names = picture_names(files, root)
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    images = [file for file in files if file not in set(videos)]
    with JsonRows(run_dir / "predictions.json") as rows:
        folder = run_dir / "pictures" if pictures else None
        for row in _predict_images(detector, images, names, folder, options):
            _count(row, counts, classes)
            rows.add(row)
        for video in videos:
            for row in _predict_video(detector, video, names[video], folder, options):
                _count(row, counts, classes)
                rows.add(row)
    seconds = time.perf_counter() - start
    if not counts["images"]:
        raise UserError(f"none of the {len(files)} files could be read, the first: {files[0]}")
    per_class = ", ".join(f"{name} {count}" for name, count in classes.most_common())
    print(f"{counts['images']} images, {counts['detections']} detections" + (f" ({per_class})" if per_class else ""))
    if counts["unreadable"]:
        print(f"{counts['unreadable']} files could not be read; predictions.json names them")
    print(f"{1000 * seconds / counts['images']:.0f} ms per image with reading and writing; written to {run_dir}")
    return {
        "files": len(files),
        **{key: counts[key] for key in ("images", "detections", "unreadable")},
        "seconds": seconds,
    }


def picture_names(files: list[Path], root: Path | None) -> dict[Path, Path]:
    """A relative name without collisions for the annotated copy of each file, .jpg."""
    names: dict[Path, Path] = {}
    taken: set[Path] = set()
    for file in files:
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

    def add(self, row: dict[str, Any]) -> None:
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


def _predict_images(
    detector: LoadedDetector, files: list[Path], names: dict[Path, Path], folder: Path | None, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    read: list[tuple[Path, NDArray[np.uint8]]] = []
    again = detector.preprocess.decode == "reduced"  # what is drawn on has all pixels, what the detector sees has not
    with tqdm(total=len(files), unit="image", disable=len(files) < 2, file=sys.stderr) as bar:
        for position, file in enumerate(files):
            try:
                read.append((file, read_image(file)))
            except UserError as error:
                tqdm.write(f"skipped: {error}", file=sys.stderr)
                yield {"image": str(file), "error": str(error)}
            bar.update()
            if len(read) == options["batch_size"] or (read and position == len(files) - 1):
                found = detector.predict([path if again else image for path, image in read], **options)
                for (path, image), detections in zip(read, found, strict=True):
                    if folder is not None:
                        _save(folder / names[path], image, detections)
                    yield {"image": str(path), **_row(image, detections)}
                read = []


def _predict_video(
    detector: LoadedDetector, file: Path, name: Path, folder: Path | None, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    try:
        reader = VideoReader(file)
    except UserError as error:
        tqdm.write(f"skipped: {error}", file=sys.stderr)
        yield {"video": str(file), "error": str(error)}
        return
    if folder is not None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(folder / name, reader.fps) if folder is not None else nullcontext() as writer:
        frames = tqdm(reader, total=reader.num_frames or None, unit="frame", desc=file.name, file=sys.stderr)
        for index, frame in enumerate(frames):
            detections = detector.predict(frame, score_threshold=options["score_threshold"])
            if writer is not None:
                writer.write(np.asarray(draw_detections(frame, detections)))
            yield {"video": str(file), "frame": index, "time_s": index / reader.fps, **_row(frame, detections)}


def _save(path: Path, image: NDArray[np.uint8], detections: Detections) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_detections(image, detections).save(path, quality=90)


def _row(image: NDArray[np.uint8], detections: Detections) -> dict[str, Any]:
    return {"height": image.shape[0], "width": image.shape[1], "detections": detections.to_dict()}


def _count(row: dict[str, Any], counts: Counter[str], classes: Counter[str]) -> None:
    if "error" in row:
        counts["unreadable"] += 1
        return
    counts["images"] += 1
    counts["detections"] += len(row["detections"])
    classes.update(item["name"] for item in row["detections"])
