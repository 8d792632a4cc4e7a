"""Describe what a result was made with: machine, versions, command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import torch

PACKAGES = ("torch", "torchvision", "numpy", "albumentations", "timm", "hydra-core", "pycocotools")


class Environment(TypedDict):
    """What environment.json says of a process; git_commit: None outside a clone, cuda: on a CPU."""

    time: str
    command: list[str]
    host: str
    system: str
    cpu: str
    cores: int | None
    threads: int
    device: str
    cuda: str | None
    python: str
    versions: dict[str, str | None]
    git_commit: str | None


def describe_environment(device: torch.device) -> Environment:
    """JSON-ready facts about this process: machine, device, threads, versions, git commit, command line."""
    from detkit.core import __version__

    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "python": platform.python_version(),
        "versions": {"detkit": __version__, **{name: _version(name) for name in PACKAGES}},
        "git_commit": _git_commit(),
    }


def device_name(device: torch.device) -> str:
    """What the device is called by its maker."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit that detkit runs from, with "+changes" where files differ from it; None outside a clone."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
