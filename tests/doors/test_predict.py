"""Predicting: what may be a source, an image, a value."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from doors import Door
from PIL import Image

import detkit
from detkit.commands import cli
from detkit.core.errors import UserError

PREDICT = "predict checkpoint=RUN device=cpu run_dir=out score_threshold=0.01"


def rows(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "out" / "predictions.json").read_text())


def write_pictures(folder: Path) -> None:
    """a.jpg, b.jpg, anim.gif of three frames, anim.webp of two, pages.tif of four, phone.mpo of two that are one."""
    for name, count in (
        ("a.jpg", 1), ("b.jpg", 1), ("anim.gif", 3), ("anim.webp", 2), ("pages.tif", 4), ("phone.mpo", 2),
    ):  # fmt: skip
        shades = [Image.new("RGB", (64, 48), (40 * index, 90, 200 - 40 * index)) for index in range(count)]
        shades[0].save(folder / name, save_all=count > 1, append_images=shades[1:])


def frames(*numbers: int | None) -> Callable[[Path, str], None]:
    def look(folder: Path, _: str) -> None:
        assert [row.get("frame") for row in rows(folder)] == list(numbers)
        assert len(list((folder / "out" / "pictures").iterdir())) == len(numbers)

    return look


def named(*names: str) -> Callable[[Path, str], None]:
    def look(folder: Path, _: str) -> None:
        assert [row["image"] for row in rows(folder)] == list(names)

    return look


def only_stars(folder: Path, _: str) -> None:
    found = [one["name"] for row in rows(folder) for one in row["detections"]]  # type: ignore[attr-defined]
    assert set(found) == {"star"}


def call(image: Callable[[], object]) -> Callable[[Path], tuple[int, str]]:
    """`detkit.load("RUN").predict(image)`: 2 and the words of its UserError, 0 and the number of detections."""

    def act(folder: Path) -> tuple[int, str]:
        detector = detkit.load(folder / "RUN", device="cpu")
        try:
            return 0, f"{len(detector.predict(image()))} detections"  # type: ignore[arg-type]
        except UserError as error:
            return 2, str(error)

    return act


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def from_the_web(folder: Path) -> tuple[int, str]:
    """A server that has a.jpg; PORT in the command is its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = cli.main(shlex.split(f"{PREDICT} source=http://127.0.0.1:{server.server_port}/a.jpg"))
        server.shutdown()
    assert str(rows(folder)[0]["image"]).startswith("http://127.0.0.1")
    return code, ""


DOORS = [
    Door("animation", "anim.gif of 3 frames", f"{PREDICT} source=anim.gif", 0, "3 images", source="yolov5 6403",
         make=write_pictures, needs=("RUN",), check=frames(0, 1, 2)),
    Door("several pictures in a file", "anim.webp of 2 frames, pages.tif of 4 pages",
         f"{PREDICT} source=[anim.webp,pages.tif]", 0, "6 images", source="nsfwjs 38",
         make=write_pictures, needs=("RUN",), check=frames(0, 1, 0, 1, 2, 3)),
    Door("a phone's MPO is one picture", "phone.mpo", f"{PREDICT} source=phone.mpo", 0, "1 images",
         make=write_pictures, needs=("RUN",), check=frames(None)),
    Door("a list of sources", "a.jpg, b.jpg", f"{PREDICT} source=[b.jpg,a.jpg]", 0, "2 images",
         make=write_pictures, needs=("RUN",), check=named("b.jpg", "a.jpg")),
    Door("a list of sources", "an empty one", f"{PREDICT} source=[]", 2, "source=[]: name at least one",
         needs=("RUN",)),
    Door("class filter", "D", f"{PREDICT} source=D/JPEGImages classes=[star] batch_size=4", 0, "star",
         needs=("D", "RUN"), check=only_stars),
    Door("class filter", "a class that is not there", f"{PREDICT} source=D classes=[stra]", 2,
         "classes=stra: the detector has no such class; did you mean 'star'?", needs=("D", "RUN")),
    Door("an address", "a server with a.jpg", f"{PREDICT} source=http://127.0.0.1:PORT/a.jpg", 0, "1 images",
         make=write_pictures, needs=("RUN",), act=from_the_web),
    Door("an address", "nobody there", f"{PREDICT} source=http://127.0.0.1:9/a.jpg", 2,
         "source=http://127.0.0.1:9/a.jpg cannot be fetched", needs=("RUN",)),
    Door("an address", "rtsp", f"{PREDICT} source=rtsp://camera/1", 2, "only http:// and https://", needs=("RUN",)),
    Door("a camera", "a machine without number 97", f"{PREDICT} source=97", 2, "there is no camera 97 here",
         needs=("RUN",)),
    Door("a tensor of 0..255", "float", "detkit.load('RUN').predict(t.float())", 2,
         "values 0..255: floats are 0..1; divide by 255", source="yolov5 2722", needs=("RUN",),
         act=call(lambda: torch.arange(3 * 64 * 64).reshape(3, 64, 64).remainder(256).float())),
    Door("a tensor normalised by ImageNet", "float", "detkit.load('RUN').predict((t - mean) / std)", 2,
         "as it was before it was normalised", source="yolov5 7030", needs=("RUN",),
         act=call(lambda: torch.linspace(-2.1, 2.6, 3 * 64 * 64).reshape(3, 64, 64))),
    Door("an empty crop", "height 0", "detkit.load('RUN').predict(image[5:5])", 2, "has no pixels", needs=("RUN",),
         act=call(lambda: np.zeros((0, 10, 3), np.uint8))),
    Door("a grey array", "[H, W]", "detkit.load('RUN').predict(image[:, :, 0])", 0, "detections", needs=("RUN",),
         act=call(lambda: np.zeros((40, 50), np.uint8))),
]  # fmt: skip


@pytest.mark.parametrize("door", [pytest.param(door, id=f"{door.kind}, {door.given}") for door in DOORS])
def test_door(door: Door, walk: Callable[[Door], str]) -> None:
    walk(door)
