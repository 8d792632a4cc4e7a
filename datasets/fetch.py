"""Gets archives from a folder or by download, checks them, and unpacks them. Needs only Python's own library."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.request import Request, urlopen

CHUNK = 1 << 20  # bytes
TIMEOUT = 30  # seconds without a byte


class FetchError(RuntimeError):
    """A data set cannot be prepared; the message says why and what to do."""


@dataclass(frozen=True)
class Archive:
    """One file to get: its name, bytes, MD5 sum, and the addresses that have it, the best first."""

    name: str
    size: int
    md5: str
    urls: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser, root: str) -> None:
    """The arguments that all preparers share."""
    parser.add_argument("--root", type=Path, default=Path(root), help="where the data set goes (default: %(default)s)")
    parser.add_argument(
        "--archives", type=Path, help="where the archives are, or are downloaded to (default: ROOT/archives)"
    )
    parser.add_argument("--no-download", action="store_true", help="use only archives that are already there")


def run(prepare: Callable[[], None]) -> int:
    """Exit code of a preparer: 0, or 1 after a printed reason."""
    try:
        prepare()
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(archives: Sequence[Archive], root: Path, folder: Path | None, download: bool, strip: str = "") -> None:
    """Get each archive and unpack it into `root`, once: a marker in `root` says that it is done.

    folder: where archives are and are downloaded to. strip: leading folder of the archive's names to leave out.
    """
    root.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        marker = root / f".{archive.name}.done"
        if marker.exists():
            print(f"{archive.name}: already in {root}")
            continue
        path = get_archive(archive, folder or root / "archives", download)
        print(f"{archive.name}: unpacking into {root}", flush=True)
        unpack(path, root, strip)
        marker.touch()


def get_archive(archive: Archive, folder: Path, download: bool) -> Path:
    """The path of a complete `archive` in `folder`, which is downloaded to there if allowed and needed."""
    path = folder / archive.name
    if path.exists():
        print(f"{archive.name}: checking {path}", flush=True)
        problem = find_problem(path, archive)
        if problem:
            raise FetchError(
                f"{path} {problem}: delete it, or rename it to {path.name}.part to have its download finished"
            )
        return path
    if not download:
        raise FetchError(f"{path} does not exist: put it there, or leave out --no-download\n{_addresses(archive)}")
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = []
    for url in archive.urls:
        problem = _download_checked(url, part, archive)
        if problem is None:
            part.rename(path)
            return path
        print(f"{archive.name}: {url} {problem}", flush=True)
        failures.append(f"  {url} {problem}")
    raise FetchError(
        f"{archive.name} cannot be downloaded; tried\n" + "\n".join(failures) + f"\nGet it by other means, put it into "
        f"{folder}, and run this again. What was downloaded is kept in {part.name} and used again."
    )


def find_problem(path: Path, archive: Archive) -> str | None:
    """What distinguishes the file from `archive`, or None."""
    size = path.stat().st_size
    if size != archive.size:
        return f"has {size} bytes instead of {archive.size}"
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return None if digest.hexdigest() == archive.md5 else f"has MD5 sum {digest.hexdigest()} instead of {archive.md5}"


def unpack(path: Path, root: Path, strip: str = "") -> None:
    """Write the files of a tar or zip archive below `root`; raises FetchError for one that would land elsewhere."""
    try:
        for name, file in _files(path):
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts or "\\" in name or ":" in name:
                raise FetchError(f"{path}: refusing to unpack {name!r}, which leads out of the folder")
            if strip and inside.is_relative_to(strip):
                inside = inside.relative_to(strip)
            target = root / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(file, out, CHUNK)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise FetchError(f"{path} is broken: {error}") from error
    except OSError as error:
        raise FetchError(f"cannot unpack {path} into {root}: {error}") from error


def _files(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, open file) of each regular file in an archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as content:
                        yield info.filename, content
        return
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isdir():
                continue
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:
                raise FetchError(f"{path}: refusing to unpack {member.name!r}, which is a link or a device")
            yield member.name, file


def _download_checked(url: str, part: Path, archive: Archive) -> str | None:
    """Complete the file `part` from `url`; what went wrong, or None."""
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _download(url, part, archive)
            problem = find_problem(part, archive)
        except (OSError, HTTPException, FetchError) as error:
            after = part.stat().st_size if part.exists() else 0
            if after > before:
                continue  # the line broke: go on from there
            return f"failed: {error}"
        if problem is None:
            return None
        part.unlink()
        if before == 0:
            return f"gave a file that {problem}"
        # else the beginning, which was there before, may be what is wrong: once more, all of it


def _download(url: str, part: Path, archive: Archive) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= archive.size:
        return
    request = Request(url, headers={"User-Agent": "detkit", **({"Range": f"bytes={have}-"} if have else {})})
    with urlopen(request, timeout=TIMEOUT) as response:
        if have and response.status != 206:
            have = 0  # the server has no ranges and starts over
        length = response.headers.get("Content-Length")
        if length is not None and have + int(length) != archive.size:
            raise FetchError(f"it offers {have + int(length)} bytes instead of {archive.size}")
        free = shutil.disk_usage(part.parent).free
        if free < archive.size - have:
            raise FetchError(f"{part.parent} has {free} bytes left, {archive.size - have} are needed")
        with part.open("ab" if have else "wb") as out:
            progress = _Progress(archive, have)
            while chunk := response.read(CHUNK):
                out.write(chunk)
                progress.add(len(chunk))
            progress.end()
    if part.stat().st_size < archive.size:
        raise FetchError(f"it ended after {part.stat().st_size} of {archive.size} bytes")


class _Progress:
    """A line about a download that is written over itself, on a terminal, and once where there is none."""

    def __init__(self, archive: Archive, have: int) -> None:
        self.archive = archive
        self.done = self.start = have
        self.began = self.shown = time.monotonic()
        self.live = sys.stderr.isatty()
        resumed = f", from {have / 1e6:.0f} MB" if have else ""
        print(f"{archive.name}: downloading {archive.size / 1e6:.0f} MB{resumed}", flush=True)

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if self.live and now - self.shown > 0.5:
            self.shown = now
            rate = (self.done - self.start) / (now - self.began)
            left = (self.archive.size - self.done) / rate if rate else 0
            share = 100 * self.done / self.archive.size
            print(f"\r{share:5.1f} %  {rate / 1e6:.1f} MB/s  {left:.0f} s left   ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.live:
            print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)


def _addresses(archive: Archive) -> str:
    return "It is at\n" + "\n".join(f"  {url}" for url in archive.urls)
