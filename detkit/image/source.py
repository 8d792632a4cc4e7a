"""Enumerate what `detkit predict` is given: files, folders, patterns, addresses, a camera."""

from __future__ import annotations

import glob
import mimetypes
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from detkit.core.errors import UserError
from detkit.image.read import IMAGE_SUFFIXES
from detkit.image.video import VIDEO_SUFFIXES

Input: TypeAlias = "Path | int"  # a file, or the number of a camera
TIMEOUT_S = 20  # without a byte
MOST_BYTES = 512 * 2**20  # of a file that is fetched
CHUNK = 2**20


def find_sources(source: str | int | Iterable[str]) -> list[Path]:
    """The pictures and videos that `source` names: a file, all below a folder, a pattern, a list of these.

    Sorted, but for a list, whose order is kept; each once. Raises UserError where there is none.
    """
    if not isinstance(source, (str, int)):
        found = [file for one in source for file in find_sources(one)]
        if not found:
            raise UserError("source=[]: name at least one file, folder or 'pattern'")
        return list(dict.fromkeys(found))
    path = Path(str(source))
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file()]
    else:
        found = [Path(name) for name in glob.glob(str(source), recursive=True) if Path(name).is_file()]
    if not found:
        reason = "is a folder without pictures or videos" if path.is_dir() else "is no file, folder or matching pattern"
        raise UserError(f"source={source} {reason} (known: {' '.join(sorted(known))})")
    return sorted(found)


def find_inputs(source: str | int | Iterable[str], folder: Path) -> dict[Input, str]:
    """All that `source` names, and how it is called: as `find_sources`, addresses and the number of a camera as well.

    folder: where what an address holds is written. Raises UserError where there is nothing.
    """
    if isinstance(source, int) and not Path(str(source)).exists():
        return {source: f"camera {source}"}
    if isinstance(source, (str, int)):
        if "://" in str(source):
            return {fetch(str(source), folder): str(source)}
        return {file: str(file) for file in find_sources(source)}
    found: dict[Input, str] = {}
    for number, one in enumerate(source):
        found |= {file: name for file, name in find_inputs(one, folder / str(number)).items() if file not in found}
    return found or {file: str(file) for file in find_sources([])}


def fetch(address: str, folder: Path, *, most_bytes: int = MOST_BYTES, timeout_s: float = TIMEOUT_S) -> Path:
    """Write what is at an http or https address into `folder`; raises UserError, where it cannot be had, saying why."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https"):
        raise UserError(f"source={address}: only http:// and https:// are fetched, not {parts.scheme}://")
    try:
        with urllib.request.urlopen(address, timeout=timeout_s) as answer:
            name = Path(urllib.parse.unquote(parts.path)).name or "picture"
            if Path(name).suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                name += mimetypes.guess_extension(answer.headers.get_content_type()) or ".jpg"
            folder.mkdir(parents=True, exist_ok=True)
            done = 0
            with (folder / name).open("wb") as file:
                while chunk := answer.read(CHUNK):
                    done += len(chunk)
                    if done > most_bytes:
                        raise UserError(f"source={address}: more than {most_bytes / 2**20:g} MB; fetch it yourself")
                    file.write(chunk)
            return folder / name
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"source={address} cannot be fetched: {reason}") from error
