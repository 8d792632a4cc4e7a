"""Runs: whose folder it is, going on, and what the machine does not give."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doors import QUICK, Door
from omegaconf import OmegaConf

from detkit.infer.open_checkpoint import load_checkpoint

ON_D = "data=voc data.root=D data.test_split=test"
ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, command: str, shell: str = 'exec "$0" "$@"') -> subprocess.Popen[str]:
    """`detkit <command>` in a process of its own, started by `shell`."""
    arguments = [sys.executable, "-m", "detkit.commands.cli", *shlex.split(command.replace("QUICK", QUICK))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        ["sh", "-c", shell, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    output = process.communicate(timeout=300)[0]
    return process.returncode, output


def two_at_once(folder: Path) -> tuple[int, str]:
    # a name that holds no seconds stands for two starts within one
    name = "hydra.run.dir='outputs/${now:%Y}'"
    both = [start(folder, f"train QUICK {ON_D} seed={seed} {name}") for seed in (0, 1)]
    ends = [end(process) for process in both]
    return max(code for code, _ in ends), "".join(output for _, output in ends)


def two_folders(folder: Path, output: str) -> None:
    runs = sorted((folder / "outputs").iterdir())
    assert len(runs) == 2 and runs[1].name == f"{runs[0].name}_2"
    seeds = [OmegaConf.load(run / "config.yaml").seed for run in runs]
    assert sorted(seeds) == [0, 1]
    for run, seed in zip(runs, seeds, strict=True):
        assert load_checkpoint(run).config["seed"] == seed
        assert not (run / ".lock").exists()


def stopped(folder: Path) -> tuple[int, str]:
    process = start(folder, f"train QUICK {ON_D} trainer.budget=5000it hydra.run.dir=mine loader.num_workers=1")
    until = time.monotonic() + 200
    while not (folder / "mine" / "config.yaml").is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    return end(process)


def has_last(folder: Path, output: str) -> None:
    assert load_checkpoint(folder / "mine" / "checkpoints" / "last.pt").step >= 1


def failed_before_saving(folder: Path) -> None:
    (folder / "mine" / "checkpoints").mkdir(parents=True)
    (folder / "mine" / "config.yaml").write_text("seed: 7\n")


def untouched(folder: Path, output: str) -> None:
    assert (folder / "mine" / "config.yaml").read_text() == "seed: 7\n" and not (folder / "outputs").exists()


def training_is_untouched(folder: Path, output: str) -> None:
    metrics = json.loads((folder / "RUN" / "metrics.json").read_text())
    assert "split=test" in metrics["protocol"]["split"]
    assert not (folder / "outputs").exists()


def nothing_left(folder: Path, output: str) -> None:
    assert not (folder / "outputs").exists()


def goes_on_as_it_was(folder: Path, output: str) -> None:
    saved = load_checkpoint(folder / "RUN" / "checkpoints" / "last.pt")
    assert saved.step == 3 and saved.config["preprocess"]["height"] == 64
    assert "ssd" in saved.config["name"] and not (folder / "outputs").exists()


def on_a_mount(command: str, options: str, fill: str = "true"):
    """Act of a door: the command where the folder `small` is a file system of its own."""

    def act(folder: Path) -> tuple[int, str]:
        (folder / "small").mkdir()
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("mounts a file system")
        mount = f'mount -t tmpfs -o {options} tmpfs small && {fill} || exit 77; exec "$0" "$@"'
        shell = f"""exec unshare -m sh -c '{mount}' "$0" "$@" """
        code, output = end(start(folder, command, shell))
        if code == 77 or "unshare:" in output:
            pytest.skip("no mounts here")
        return code, output

    return act


DOORS = [
    Door(
        kind="two trainings started in one second",
        given="",
        command="train QUICK data=voc data.root=D seed=0 & train QUICK data=voc data.root=D seed=1",
        code=0,
        says="written to",
        source="hydra #2925, #1817; lightning-hydra-template #511; deepinv #525",
        needs=("D",),
        slow=True,
        act=two_at_once,
        check=two_folders,
    ),
    Door(
        kind="a second training into the folder of a run",
        given="",
        command=f"train QUICK {ON_D} optimizer.lr=1e30 hydra.run.dir=RUN",
        code=2,
        says="RUN: holds a run (resume=true goes on with it); choose another hydra.run.dir",
        source="hydra #1817",
        needs=("D", "RUN"),
        check=training_is_untouched,
    ),
    Door(
        kind="a training into the folder of one that failed before its first checkpoint",
        given="mine/ with a config.yaml",
        command="train QUICK hydra.run.dir=mine",
        code=2,
        says="mine: holds a run (resume=true goes on with it)",
        source="hydra #1817",
        make=failed_before_saving,
        check=untouched,
    ),
    Door(
        kind="an evaluation into the run itself",
        given="",
        command="eval checkpoint=RUN split=train hydra.run.dir=RUN device=cpu",
        code=2,
        says="RUN: holds a run, and its config.yaml would not stay as it is; choose another hydra.run.dir",
        source="deepinv #525",
        needs=("D", "RUN"),
        check=training_is_untouched,
    ),
    Door(
        kind="predictions into the run itself",
        given="",
        command="predict checkpoint=RUN source=D/JPEGImages run_dir=RUN device=cpu",
        code=2,
        says="run_dir=RUN: holds a run",
        needs=("D", "RUN"),
        check=training_is_untouched,
    ),
    Door(
        kind="a comparison into the run itself",
        given="",
        command="compare models=[RUN] run_dir=RUN device=cpu",
        code=2,
        says="run_dir=RUN: holds a run",
        needs=("D", "RUN"),
        check=training_is_untouched,
    ),
    Door(
        kind="resume alone",
        given="",
        command="train resume=RUN trainer.budget=3it",
        code=0,
        says="going on after step 2",
        needs=("D", "RUN"),
        check=goes_on_as_it_was,
    ),
    Door(
        kind="the whole command again with resume",
        given="",
        command=f"train QUICK {ON_D} trainer.budget=3it resume=RUN",
        code=0,
        says="going on after step 2",
        needs=("D", "RUN"),
        check=goes_on_as_it_was,
    ),
    Door(
        kind="resume with another learning rate",
        given="",
        command="train resume=RUN optimizer.lr=0.5 trainer.budget=3it",
        code=2,
        says="this is another training than the one it was saved by: optimizer.lr=0.5 (was 0.0006)\n"
        "resume=... alone goes on as the run was",
        needs=("D", "RUN"),
        check=nothing_left,
    ),
    Door(
        kind="resume with another model",
        given="",
        command="train resume=RUN model=retinanet_light",
        code=2,
        says="this is another training than the one it was saved by: model.",
        needs=("D", "RUN"),
        check=nothing_left,
    ),
    Door(
        kind="the run folder is a file",
        given="a file `afile`",
        command="train QUICK hydra.run.dir=afile",
        code=2,
        says="cannot write to afile: there is a file where a folder should be; choose another folder",
        source="hydra #2791",
        make=lambda folder: (folder / "afile").touch(),
    ),
    Door(
        kind="a run folder below a file",
        given="a file `afile`",
        command="predict checkpoint=RUN source=D/JPEGImages hydra.run.dir=afile/x",
        code=2,
        says="cannot write to afile/x: there is a file where a folder should be",
        make=lambda folder: (folder / "afile").touch(),
    ),
    Door(
        kind="a run folder of too long a name",
        given="",
        command=f"eval checkpoint=RUN hydra.run.dir={'x' * 300}",
        code=2,
        says="File name too long",
    ),
    Door(
        kind="a colon in the run folder, a slash in the name",
        given="",
        command=f"train QUICK {ON_D} name=a/b 'hydra.run.dir=\"run:1\"'",
        code=0,
        says="written to",
        source="hydra #2791",
        needs=("D",),
        check=lambda folder, output: load_checkpoint(folder / "run:1"),
    ),
    Door(
        kind="nothing is left behind by what is refused",
        given="",
        command="predict checkpoint=nowhere.pt source=nowhere.jpg",
        code=2,
        says="nowhere.jpg",
        check=nothing_left,
    ),
    Door(
        kind="training on a read-only file system",
        given="`small`: a read-only file system",
        command=f"train QUICK {ON_D} hydra.run.dir=small/run",
        code=2,
        says="cannot write to small/run: Read-only file system; choose another folder with hydra.run.dir=DIR",
        source="hydra #2791",
        needs=("D",),
        act=on_a_mount(f"train QUICK {ON_D} hydra.run.dir=small/run", "ro"),
    ),
    Door(
        kind="predicting in a read-only working directory",
        given="`small`: a read-only file system, the working directory",
        command="predict checkpoint=RUN source=D/JPEGImages",
        code=2,
        says="cannot write to outputs",
        source="hydra #2791",
        act=on_a_mount("predict checkpoint=../RUN source=../D/JPEGImages", "ro", "cd small"),
    ),
    Door(
        kind="the disk is full at the start",
        given="`small`: a disk of 4 kB",
        command=f"train QUICK {ON_D} hydra.run.dir=small/run",
        code=2,
        says="and the disk of\nsmall/run has 0 MB left",
        slow=True,
        source="ronin #51",
        needs=("D",),
        act=on_a_mount(f"train QUICK {ON_D} hydra.run.dir=small/run", "size=4k"),
    ),
    Door(
        kind="too little disk for a checkpoint",
        given="`small`: a disk of 20 MB",
        command=f"train QUICK {ON_D} hydra.run.dir=small/run",
        code=2,
        slow=True,
        says="no space for 2 checkpoints: they need about 27 MB, and the disk of",
        needs=("D",),
        act=on_a_mount(f"train QUICK {ON_D} hydra.run.dir=small/run", "size=20m"),
    ),
    Door(
        kind="the disk is full while saving",
        given="`small`: a disk of 60 MB",
        command=f"train QUICK {ON_D} trainer.budget=3it trainer.save_every=1it hydra.run.dir=small/run",
        code=2,
        says="last.pt: a checkpoint takes 41 MB, and\nMB are free; the one before is still there",
        source="pytorch #10577; so-vits-svc #46; h2oai #214",
        needs=("D",),
        act=on_a_mount(
            f"train QUICK {ON_D} trainer.budget=3it trainer.save_every=1it hydra.run.dir=small/run", "size=60m"
        ),
    ),
    Door(
        kind="SIGTERM in a training",
        given="",
        command=f"train QUICK {ON_D} hydra.run.dir=mine",
        code=143,
        says="stopped; to go on: detkit train resume=\ninterrupted by SIGTERM",
        source="Lightning #1455; blue-oil #315",
        needs=("D",),
        act=stopped,
        check=has_last,
    ),
    Door(
        kind="a device of another kind",
        given="",
        command="train QUICK device=mps",
        code=2,
        says="device=mps: detkit runs on cpu, cuda and cuda:1, not on mps",
        check=nothing_left,
    ),
    Door(
        kind="a device of another kind, predicting",
        given="",
        command="predict checkpoint=RUN source=D/JPEGImages device=xpu",
        code=2,
        says="device=xpu: detkit runs on cpu, cuda and cuda:1, not on xpu",
        needs=("D", "RUN"),
    ),
]


@pytest.mark.parametrize(
    "door", [pytest.param(door, id=door.kind, marks=[pytest.mark.slow] * door.slow) for door in DOORS]
)
def test_door(door: Door, walk) -> None:
    walk(door)
