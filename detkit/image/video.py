"""Read and write videos frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.core.errors import UserError

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})


class VideoReader:
    """The frames of a video file, or of the camera of that number, as uint8 [H, W, 3] RGB, read while iterating (once).

    fps: frames per second, 25 where the file does not say. num_frames: as the file says, 0 where it does not.
    Raises UserError naming the file where it cannot be opened.
    """

    def __init__(self, path: Path | int) -> None:
        if isinstance(path, int):
            self._capture = _open_camera(path)
        else:
            self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise UserError(
                f"source={path}: there is no camera {path} here"
                if isinstance(path, int)
                else f"cannot open {path} as a video"
            )
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.num_frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        try:
            while True:
                found, frame = self._capture.read()
                if not found:
                    return
                yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
        finally:
            self._capture.release()


def _open_camera(number: int) -> cv2.VideoCapture:
    """Without what OpenCV tells of every way in which it is not there."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(0)
    try:
        return cv2.VideoCapture(number)
    finally:
        logging.setLogLevel(level)


class VideoWriter:
    """Writes uint8 [H, W, 3] RGB frames to `path` (mp4) or, where this OpenCV has no mp4 encoder, to `path`.avi.

    The size is that of the first frame. `path` is where the video really went. Use as a context manager.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append one frame."""
        if self._writer is None:
            self._writer = self._open(frame.shape[1], frame.shape[0])
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        for suffix, code in ((".mp4", "mp4v"), (".avi", "MJPG")):
            self.path = self.path.with_suffix(suffix)
            writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*code), self.fps, (width, height))
            if writer.isOpened():
                return writer
        raise UserError(f"this OpenCV can write neither mp4 nor avi to {self.path.parent}; set pictures=false")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
