"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from noise_voc import write_voc
from omegaconf import DictConfig, OmegaConf

from detkit.checkpoint.build import build_detector, build_preprocess, without_pretrained
from detkit.commands.console import logged_to_console
from detkit.model.detector import Detector

ROOT = Path(__file__).resolve().parents[1]
HELPERS = ROOT / "tests" / "helpers"
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data: {SHARED_DATA} does not exist")
    return SHARED_DATA


@pytest.fixture(scope="session")
def compose_train() -> Callable[..., DictConfig]:
    """compose_train(*overrides): the config of `detkit train <overrides>`."""

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return compose("train", overrides=list(overrides))

    return composed


@pytest.fixture(scope="session")
def build(compose_train: Callable[..., DictConfig]) -> Callable[..., Detector]:
    """build(*overrides, num_classes=3): the detector that `detkit train <overrides>` starts from, random weights."""

    def built(*overrides: str, num_classes: int = 3) -> Detector:
        config = compose_train(*overrides)
        model = without_pretrained(OmegaConf.to_container(config.model, resolve=True))
        preprocess = build_preprocess(OmegaConf.to_container(config.preprocess, resolve=True))  # type: ignore[arg-type]
        return build_detector(model, num_classes, preprocess)

    return built


@pytest.fixture(autouse=True)
def as_in_a_command(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is logged is told, as the command line does: a test reads what its user would, unless marked `silent`."""
    with nullcontext() if request.node.get_closest_marker("silent") else logged_to_console():
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums come out alike here and in the processes that `run_fake` starts, and no test waits for another's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits train (7 images, one of them empty) and val (3) of the classes dot and bar."""
    root = tmp_path_factory.mktemp("tiny_voc")
    rows = {
        f"t{i}": [("dot", (3 + i, 4, 20 + i, 30), False), ("bar", (20, 5 + i, 40, 30 + i), False)] for i in range(6)
    }
    write_voc(root, {**rows, "t6": []}, "train", size=(40, 48))
    return write_voc(root, {f"v{i}": [("dot", (2, 2 + i, 25, 30), False)] for i in range(3)}, "val", size=(40, 48))


@pytest.fixture(scope="session")
def run_fake() -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_fake(root, run_dir, *overrides, processes=1, dies_in=None, signalled=None): trains the fake, in processes.

    dies_in: the step in which it is killed. signalled: the step in which it sends itself a signal, and which. Neither
    is a part of its config, so that who goes on from there does not end too.
    """

    def run(
        *arguments: Any, processes: int = 1, dies_in: int | None = None, signalled: tuple[int, int] | None = None
    ) -> subprocess.CompletedProcess[str]:
        launcher = [sys.executable]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [*launcher, str(HELPERS / "fake_detector.py"), *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}", "OMP_NUM_THREADS": "1"}
        environment |= {} if dies_in is None else {"FAKE_DIES_IN": str(dies_in)}
        if signalled is not None:
            environment |= {"FAKE_SIGNALLED_IN": str(signalled[0]), "FAKE_SIGNAL": str(int(signalled[1]))}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)

    return run
