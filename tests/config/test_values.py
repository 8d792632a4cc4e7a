"""The table of what each key may hold knows every key, and lets no value of another kind through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from detkit.commands.cli import VERBS
from detkit.config.config_dir import config_dir
from detkit.config.overrides import all_groups, config_loader, options_of, typed_overrides
from detkit.config.values import (
    MISFIT,
    OWN,
    Rule,
    check_value,
    check_values,
    iterate_values,
    parse_rule,
    rule_of,
    rules,
)
from detkit.core.errors import UserError

LOADER = config_loader(str(config_dir()))
# What the tables of parts cannot know: arguments of albumentations other than its probability.
FOREIGN = ("augment.transforms.",)


def composed() -> Iterator[tuple[str, DictConfig]]:
    """(verb, config) of every verb, of every model and experiment, and of the options of all groups of a training."""
    for name, verb in VERBS.items():
        yield name, LOADER.load_configuration(verb.config, [], RunMode.RUN)
    groups = all_groups(LOADER)
    for model in options_of(LOADER, "model"):
        yield "train", LOADER.load_configuration("train", [f"model={model}"], RunMode.RUN)
    for group in ("augment", "data", "multi_image", "optimizer", "preprocess", "proposal", "schedule"):
        for option in options_of(LOADER, group):
            if option not in ("default",):
                yield "train", LOADER.load_configuration("train", ["model=ssd_light", f"{group}={option}"], RunMode.RUN)
    for group in (name for name in groups if name.startswith("experiment")):
        for option in options_of(LOADER, group):
            name = f"{group}/{option}".removeprefix("experiment/")
            yield "train", LOADER.load_configuration("train", [f"experiment={name}"], RunMode.RUN)


CONFIGS = list(composed())
# the options of the parts of models by themselves: what they interpolate is not there
PARTS = [
    LOADER.load_configuration(f"{group}/{option}", [], RunMode.RUN)
    for group in all_groups(LOADER)
    if group.startswith("model/")
    for option in options_of(LOADER, group)
]


def keys_of(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key, also of what is missing or interpolated."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from keys_of(value, f"{prefix}{name}.")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from keys_of(value, f"{prefix}{index}.")


def takes_anything(rule: Rule) -> bool:
    return any(kind.name == "any" or (kind.items is not None and takes_anything(kind.items)) for kind in rule.kinds)


def without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def test_every_key_has_a_rule_and_its_default_keeps_it():
    unknown, seen = set(), set()
    for verb, config in CONFIGS:
        for key, value, _ in iterate_values(without_hydra(config)):
            rule = rule_of(verb, key)
            seen.add(key)
            if rule is None and not key.startswith(FOREIGN) and not isinstance(value, dict):
                unknown.add(f"{verb}: {key}={value}")
            elif rule is not None:
                check_value(verb, key, value)
    assert sorted(unknown) == []
    assert len(seen) > 150


def test_a_value_of_no_kind_is_refused_at_every_key():
    class Strange:
        pass

    let_through = {
        f"{verb}: {key}"
        for verb, config in CONFIGS
        for key, _, _ in iterate_values(without_hydra(config))
        if (rule := rule_of(verb, key)) is not None and not takes_anything(rule) and rule.read(Strange()) is not MISFIT
    }
    assert sorted(let_through) == []


def test_every_rule_is_the_rule_of_some_key():
    used = set()
    for verb, config in [*CONFIGS, *(("train", part) for part in PARTS)]:
        for key in keys_of(OmegaConf.to_container(without_hydra(config))):
            parts = key.split(".")
            below = [".".join([*parts[:end], "*"]) for end in range(1, len(parts))]
            endings = [".".join(parts[start:]) for start in range(len(parts))]
            used.add(next((one for one in (*below, f"{verb}/{key}", *endings) if one in rules()), None))
    assert set(rules()) - used == set()


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("whole >=1", [1, 10**9], [0, -1, 1.0, True, "1", None, float("nan")]),
        ("number >0 <1", [0.5, 1e-9], [0, 1, 1.0, float("inf"), "0.5", False]),
        ("null | whole >=1", [None, 3], [0, "null"]),
        ("fp32 | bf16", ["fp32"], ["fp16", 32, None]),
        ("switch", [True, False], [0, 1, "true", None]),
        ("part", [{"_target_": "x"}, {}], [{"a": 1}, "torch.optim.Adam", None]),  # {}: settings that are no part
        ("any", [None, 1, "x", [1]], []),
    ],
)
def test_kinds(text, good, bad):
    rule = parse_rule(text)
    assert all(rule.read(value) == value for value in good)
    assert all(rule.read(value) is MISFIT for value in bad)


def test_a_single_value_where_a_list_is_wanted_is_a_list_of_one():
    assert parse_rule("list of text").read("star") == ["star"]
    assert parse_rule("list of whole >=1").read(64) == [64]
    assert parse_rule("list of whole >=1").read([64, 0]) is MISFIT
    assert parse_rule("list of whole >=1").read(None) is MISFIT
    assert parse_rule("null | list of text").read(None) is None


def test_a_list_stays_a_list_and_a_mapping_is_none():
    rule = parse_rule("list of text")
    assert rule.read(["a", "b"]) == ["a", "b"]
    assert rule.read([]) == []
    assert rule.read({"a": 1}) is MISFIT


@pytest.mark.parametrize("rule", ["whole >=", "text >0", "list of whole >=one"])
def test_a_rule_that_is_none_is_an_error_of_the_table(rule):
    with pytest.raises(ValueError, match="is no rule"):
        parse_rule(rule)


def checked(*overrides: str) -> Any:
    config = LOADER.load_configuration("train", ["data=voc", *overrides], RunMode.RUN)
    check_values(config, "train", typed_overrides(list(overrides)))
    return config


def test_text_is_what_was_typed():
    config = checked("data.root=2007", "data.train_split=02146", "data.val_split=1e3", "data.classes=[no,1e3,true]")
    data = config.data
    assert (data.root, data.train_split, data.val_split) == ("2007", "02146", "1e3")
    assert list(data.classes) == ["no", "1e3", "true"]


def test_a_switch_beside_text_stays_a_switch():
    assert checked("model.backbone.pretrained=false").model.backbone.pretrained is False
    assert checked("resume=true").resume is True


def test_an_interpolated_value_is_told_at_its_source():
    with pytest.raises(UserError, match=r"^loader\.batch_size=0: "):
        checked("loader.batch_size=0")


def test_the_arguments_of_parts_of_one_s_own_are_theirs():
    assert not "mynet.TinyNet".startswith(OWN)
    config = checked()
    OmegaConf.set_struct(config, False)
    config.model.backbone = {"_target_": "mynet.TinyNet", "channels": "many", "depth": "deep"}
    check_values(config, "train")


def test_parts_in_a_list_are_checked():
    with pytest.raises(UserError, match=r"augment\.transforms\.0\.p=5: must be a number at least 0 and at most 1"):
        checked("augment=color", "augment.transforms.0.p=5")


def test_settings_do_not_stand_where_one_value_is_wanted():
    with pytest.raises(UserError, match=r"model\.backbone\.name=\{\}: must be text"):
        checked("model.backbone.name={a: 1}")


def test_a_row_for_all_keys_below_another_comes_before_endings():
    assert rule_of("train", "optimizer.part_lr.backbone") == parse_rule(
        "number >=0 | settings"
    )  # which alone is a part
    with pytest.raises(UserError, match=r"optimizer\.part_lr\.roi_head\.predictor=fast: must be a number"):
        checked("+optimizer.part_lr.roi_head.predictor=fast")
    assert checked("optimizer.part_lr={backbone: 0.1}").optimizer.part_lr.backbone == 0.1
