"""The preparers against a server on this machine that misbehaves in every way."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from omegaconf import DictConfig

from detkit.data.formats.voc.voc import find_voc_classes
from detkit.data.split import read_split

ROOT = Path(__file__).resolve().parents[2]
ComposeTrain = Callable[..., DictConfig]
CONTENT = bytes(range(256)) * 40


class Server(BaseHTTPRequestHandler):
    """Serves `files`; the first folder of the path says how badly."""

    files: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        _, manner, name = self.path.split("/", 2)
        wanted = self.headers.get("Range")
        self.requests.append((manner, wanted))
        data = self.files.get(name)
        if data is None or manner == "absent":
            self.send_error(404)
            return
        if manner == "other":
            data = data[::-1]
        if manner == "page":
            data = b"<html>please log in</html>"
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and manner != "rangeless" else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + 4000 if manner == "breaking" else 3000 if manner == "stuck" else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.files, Server.requests = {"a.tar": CONTENT}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "datasets"))
    return importlib.import_module("fetch")


def archive_of(fetch: ModuleType, data: bytes, *urls: str, name: str = "a.tar"):
    return fetch.Archive(name, len(data), hashlib.md5(data).hexdigest(), urls)


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_a_download(fetch: ModuleType, server: str, tmp_path: Path) -> None:
    path = fetch.get_archive(archive_of(fetch, CONTENT, f"{server}/good/a.tar"), tmp_path / "deep", True)
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["a.tar"]


def test_a_partial_download_is_resumed(fetch: ModuleType, server: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:1234])
    path = fetch.get_archive(archive_of(fetch, CONTENT, f"{server}/good/a.tar"), tmp_path, True)
    assert path.read_bytes() == CONTENT
    assert Server.requests == [("good", "bytes=1234-")]


def test_a_line_that_breaks_is_taken_up_again(fetch: ModuleType, server: str, tmp_path: Path) -> None:
    path = fetch.get_archive(archive_of(fetch, CONTENT, f"{server}/breaking/a.tar"), tmp_path, True)
    assert path.read_bytes() == CONTENT
    assert [wanted for _, wanted in Server.requests] == [None, "bytes=4000-", "bytes=8000-"]


def test_a_server_without_ranges_starts_over(fetch: ModuleType, server: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:1234])
    path = fetch.get_archive(archive_of(fetch, CONTENT, f"{server}/rangeless/a.tar"), tmp_path, True)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", [b"x" * 1234, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
def test_a_wrong_beginning_is_thrown_away(fetch: ModuleType, server: str, tmp_path: Path, wrong: bytes) -> None:
    (tmp_path / "a.tar.part").write_bytes(wrong)
    path = fetch.get_archive(archive_of(fetch, CONTENT, f"{server}/good/a.tar"), tmp_path, True)
    assert path.read_bytes() == CONTENT


def test_the_next_address_is_tried(fetch: ModuleType, server: str, tmp_path: Path) -> None:
    manners = ("absent", "page", "stuck", "other", "good")
    archive = archive_of(fetch, CONTENT, *(f"{server}/{manner}/a.tar" for manner in manners))
    assert fetch.get_archive(archive, tmp_path, True).read_bytes() == CONTENT


def test_every_address_tried_is_named(fetch: ModuleType, server: str, tmp_path: Path) -> None:
    urls = [f"{server}/{manner}/a.tar" for manner in ("absent", "page", "other")] + ["http://127.0.0.1:1/a.tar"]
    with pytest.raises(fetch.FetchError) as caught:
        fetch.get_archive(archive_of(fetch, CONTENT, *urls), tmp_path, True)
    lines = str(caught.value).split("\n")
    assert [line.split()[0] for line in lines[1:5]] == urls
    assert "404" in lines[1]
    assert "26 bytes instead of 10240" in lines[2]
    assert "MD5" in lines[3]
    assert "refused" in lines[4]
    assert str(tmp_path) in lines[5]
    assert not (tmp_path / "a.tar").exists()


def test_archives_that_are_there_are_checked(fetch: ModuleType, tmp_path: Path) -> None:
    archive = archive_of(fetch, CONTENT, "http://127.0.0.1:1/a.tar")
    with pytest.raises(fetch.FetchError, match=r"(?s)does not exist: put it there.*127\.0\.0\.1:1/a\.tar"):
        fetch.get_archive(archive, tmp_path, False)
    (tmp_path / "a.tar").write_bytes(CONTENT)
    assert fetch.get_archive(archive, tmp_path, False) == tmp_path / "a.tar"
    with pytest.raises(fetch.FetchError, match=r"has MD5 sum .* instead of 0+: delete it"):
        fetch.get_archive(replace(archive, md5="0" * 32), tmp_path, True)
    (tmp_path / "a.tar").write_bytes(CONTENT[:100])
    with pytest.raises(fetch.FetchError, match="has 100 bytes instead of 10240"):
        fetch.get_archive(archive, tmp_path, True)


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_unpacking(fetch: ModuleType, tmp_path: Path, pack) -> None:
    (tmp_path / "a").write_bytes(pack({"top/x/y.txt": b"one", "z.txt": b"two"}))
    fetch.unpack(tmp_path / "a", tmp_path / "out", strip="top")
    assert (tmp_path / "out" / "x" / "y.txt").read_bytes() == b"one"
    assert (tmp_path / "out" / "z.txt").read_bytes() == b"two"


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_nothing_is_unpacked_elsewhere(fetch: ModuleType, tmp_path: Path, pack, name: str) -> None:
    (tmp_path / "a").write_bytes(pack({name: b"evil"}))
    with pytest.raises(fetch.FetchError, match="leads out of the folder"):
        fetch.unpack(tmp_path / "a", tmp_path / "in" / "deep")
    assert not list(tmp_path.rglob("*out.txt"))


def test_links_are_not_unpacked(fetch: ModuleType, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a", "w") as tar:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
    with pytest.raises(fetch.FetchError, match="is a link or a device"):
        fetch.unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("data", [b"no archive at all" * 100, tar_of({"x": CONTENT})[:5000]])
def test_a_broken_archive_is_named(fetch: ModuleType, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(fetch.FetchError, match=r"a\.tar"):
        fetch.unpack(tmp_path / "a.tar", tmp_path / "out")


def voc_files(year: int, splits: dict[str, list[str]]) -> dict[str, bytes]:
    top = f"VOCdevkit/VOC{year}"
    xml = (
        "<annotation><size><width>9</width><height>9</height></size><object><name>cat</name><bndbox><xmin>1</xmin>"
        "<ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
    )
    files = {f"{top}/ImageSets/Main/{split}.txt": "\n".join(ids).encode() for split, ids in splits.items()}
    for image_id in {image_id for ids in splits.values() for image_id in ids}:
        files[f"{top}/JPEGImages/{image_id}.jpg"] = b"picture"
        files[f"{top}/Annotations/{image_id}.xml"] = xml.encode()
    return files


def test_prepare_voc(
    fetch: ModuleType,
    server: str,
    compose_train: ComposeTrain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare = importlib.import_module("prepare_voc")
    packed = {
        "tv7.tar": tar_of(voc_files(2007, {"train": ["1"], "val": ["2"], "trainval": ["1", "2"]})),
        "t7.tar": tar_of(voc_files(2007, {"test": ["3"]})),
        "tv12.tar": tar_of(voc_files(2012, {"train": ["1"], "val": ["2"], "trainval": ["1", "2"]})),
    }
    Server.files = packed
    made = [archive_of(fetch, data, f"{server}/good/{name}", name=name) for name, data in packed.items()]
    monkeypatch.setattr(prepare, "ARCHIVES", {2007: made[:2], 2012: made[2:]})
    root = tmp_path / "VOCdevkit"
    assert prepare.main(["--root", str(root)]) == 0
    assert "VOC2007 test: 1 images" in capsys.readouterr().out
    for name, splits in (("voc07", {"train": 2, "test": 1}), ("voc0712", {"train": 4, "test": 1})):
        config = compose_train(f"data={name}", f"data.root={root}").data
        assert config.val_split is None
        for use, count in splits.items():
            annotations = read_split(config, config[f"{use}_split"])
            assert len(annotations) == len(annotations.boxes) == count
            assert annotations.faults == []
            assert annotations.classes[annotations.labels[0]] == "cat"

    Server.requests.clear()
    assert prepare.main(["--root", str(root), "--years", "2012"]) == 0  # all is there: nothing is asked for
    assert Server.requests == []
    (root / "VOC2012" / "JPEGImages" / "1.jpg").unlink()
    assert prepare.main(["--root", str(root), "--years", "2012"]) == 1
    assert "1.jpg is missing" in capsys.readouterr().err
    assert prepare.main(["--root", str(tmp_path / "new"), "--no-download"]) == 1
    assert "tv7.tar does not exist" in capsys.readouterr().err
    assert prepare.main(["--root", str(tmp_path / "new"), "--archives", str(root / "archives"), "--no-download"]) == 0


def test_prepare_coco(
    fetch: ModuleType,
    compose_train: ComposeTrain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare = importlib.import_module("prepare_coco")
    image = {"id": 7, "file_name": "7.jpg", "width": 9, "height": 9}
    box = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 3, "name": "cat"}]}
    notes = {f"annotations/instances_{split}2017.json": json.dumps(content).encode() for split in ("train", "val")}
    packed = {
        "notes.zip": zip_of(notes),
        "train.zip": zip_of({"train2017/7.jpg": b"picture"}),
        "val.zip": zip_of({"val2017/8.jpg": b"picture"}),
    }
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
    made = [archive_of(fetch, data, name=name) for name, data in packed.items()]
    monkeypatch.setattr(prepare, "ANNOTATIONS", made[0])
    monkeypatch.setattr(prepare, "IMAGES", {"train": made[1], "val": made[2]})
    arguments = ["--root", str(tmp_path / "coco"), "--archives", str(tmp_path)]
    assert prepare.main([*arguments, "--splits", "train"]) == 0
    assert "train2017: 1 images" in capsys.readouterr().out
    config = compose_train("data=coco2017", f"data.root={tmp_path / 'coco'}").data
    annotations = read_split(config, config.train_split)
    assert (len(annotations), len(annotations.boxes), annotations.faults) == (1, 1, [])
    assert prepare.main(arguments) == 1
    assert re.search("lacks 1 images, such as 7.jpg", capsys.readouterr().err)


def test_the_addresses_are_whole(fetch: ModuleType) -> None:
    voc, coco = importlib.import_module("prepare_voc"), importlib.import_module("prepare_coco")
    archives = [*voc.ARCHIVES[2007], *voc.ARCHIVES[2012], coco.ANNOTATIONS, *coco.IMAGES.values()]
    for archive in archives:
        assert re.fullmatch("[0-9a-f]{32}", archive.md5)
        assert archive.urls
        assert all(re.fullmatch(r"https?://[\w.]+/\S+/" + re.escape(archive.name), url) for url in archive.urls)


@pytest.mark.real_data
def test_voc_classes_are_the_twenty_in_order(shared_data: Path, compose_train: ComposeTrain) -> None:
    for name in ("voc07", "voc0712"):
        classes = list(compose_train(f"data={name}").data.classes)
        assert classes == sorted(classes)
        assert classes == find_voc_classes([shared_data / "voc2012_100" / "VOC2012"])
