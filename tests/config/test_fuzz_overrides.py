"""Odd values at every key of every verb: an answer in words or a config that can be put together, never a traceback."""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from detkit.checkpoint.build import check_assembly
from detkit.commands import cli
from detkit.config.config_dir import config_dir
from detkit.config.overrides import config_loader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEED, COUNT = 20261128, 500
VALUES = (
    "0", "-1", "1", "1.5", "-0.1", "1e30", "1e-30", "nan", "inf", "true", "false", "null", "abc", "''", "02146", "16:9",
    "[]", "[0]", "[1,2]", "[a,b]", "[[1,2],[3]]", "{a:1}", "{_target_:os.system}", "${oc.env:NOT_SET_ANYWHERE}",
    "${nowhere}", "${seed}", "100000000000000000000", "é", "a b", "auto", "10min", "3it",
)  # fmt: skip
NEEDED = {"predict": ["checkpoint=x", "source=y"], "export": ["checkpoint=x"]}
MODELS = (
    "faster_rcnn_light",
    "rcnn_light",
    "rfcn_light",
    "ssd_light",
    "retinanet_light",
    "yolo_v2_light",
    "yolox_light",
)


def put_together(config: Any) -> int:
    """In place of the work of `train`: all that is known of a training before its data."""
    settings = OmegaConf.to_container(config, resolve=True)
    check_assembly({**settings, "model": without_weights(settings["model"])})
    return 0


def without_weights(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: False if key == "pretrained" and value is True else without_weights(value)
            for key, value in node.items()
        }
    return [without_weights(value) for value in node] if isinstance(node, list) else node


def nothing(config: Any) -> int:
    """In place of the work of the other verbs."""
    OmegaConf.to_container(config, resolve=True)
    return 0


def keys_of(node: Any, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        if not str(name).startswith("_"):
            yield f"{prefix}{name}"
            if isinstance(value, dict):
                yield from keys_of(value, f"{prefix}{name}.")


def commands() -> Iterator[list[str]]:
    """COUNT commands, each with one odd value; the seed makes them the same every time."""
    chance = random.Random(SEED)
    loader = config_loader(str(config_dir()))
    keys: dict[tuple[str, ...], list[str]] = {}
    for verb, about in cli.VERBS.items():
        for model in MODELS if verb == "train" else ("",):
            given = [f"model={model}"] if model else []
            config = OmegaConf.to_container(loader.load_configuration(about.config, given, RunMode.RUN))
            config.pop("hydra")
            keys[(verb, *given, *NEEDED.get(verb, []))] = list(keys_of(config))
    for _ in range(COUNT):
        command = chance.choice(list(keys))
        yield [*command, f"{chance.choice(keys[command])}={chance.choice(VALUES)}"]


def test_no_value_at_any_key_ends_in_a_traceback(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    stubs = {name: f"{__name__}:{'put_together' if name == 'train' else 'nothing'}" for name in cli.VERBS}
    verbs = {name: verb._replace(function=stubs[name], number=None) for name, verb in cli.VERBS.items()}
    monkeypatch.setattr(cli, "VERBS", verbs)
    bad, codes = [], {0: 0, 2: 0}
    for command in commands():
        try:
            code = cli.main(command)
        except Exception as error:
            bad.append(f"{shlex.join(command)}: {type(error).__name__}: {str(error)[:200]}")
            continue
        told = capfd.readouterr()
        if code not in codes or "Traceback" in told.err or (code == 2 and "error: " not in told.err):
            bad.append(f"{shlex.join(command)}: exit {code}: {told.err[-300:]}")
        else:
            codes[code] += 1
    print(f"seed {SEED}: {COUNT} overrides, {codes[0]} taken, {codes[2]} refused, {len(bad)} crashed")
    assert bad == []
